"""Checkpoints: equal states give equal bytes, and no damaged one is resumed from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sslkit.artifacts import DamagedFile
from sslkit.recipe.schema import Recipe
from sslkit.recipe.validation import validated
from sslkit.training import checkpoint, log
from sslkit.training.clock import FIRST, Clock

CPU = torch.device("cpu")


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    method = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    groups = [{"params": [*method.parameters()], "decays": True, "factor": 1.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
    method(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    return method, optimizer


def state() -> dict[str, Any]:
    method, optimizer = parts()
    meter = log.Meter()
    meter.add({"loss": torch.tensor(1.0)})
    return {
        "step": 3,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "meter": meter.state(),
        "skipped_in_a_row": 0,
        "skipped": 0,
        "last": {"step": 3, "loss": 1.0, "warnings": ["a", "a"]},
    }


def resume(path: Path) -> dict[str, Any]:
    """Everything that a training run does with a checkpoint before its first step."""
    found = checkpoint.load(path, CPU)
    assert found is not None
    method, optimizer = parts()
    checkpoint.check_meter(path, found["meter"])
    checkpoint.restore(path, found, method, optimizer)
    return {**found, "method": method.state_dict(), "optimizer": optimizer.state_dict()}


def test_a_resumed_state_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state())
    before = path.read_bytes()
    checkpoint.save(path, resume(path))
    assert path.read_bytes() == before
    assert checkpoint.load(tmp_path / "none.pt", CPU) is None


def test_a_run_is_told_by_what_its_weights_depend_on() -> None:
    recipe = validated(Recipe, {})
    own = checkpoint.identity(recipe, "photos")
    assert checkpoint.identity(validated(Recipe, {"train": {"checkpoint_blocks": True}}), "photos") == own
    assert checkpoint.identity(validated(Recipe, {"train": {"seed": 1}}), "photos") != own
    assert checkpoint.identity(validated(Recipe, {"optim": {"lr": 1e-3}}), "photos") != own
    assert checkpoint.identity(recipe, "drawings") != own


def changed(*keys: Any, to: Any = None) -> Callable[[dict], object]:
    """Replaces the value at the keys, or deletes it."""

    def change(value: Any) -> None:
        for key in keys[:-1]:
            value = value[key]
        if to is None:
            del value[keys[-1]]
        else:
            value[keys[-1]] = to

    return change


@pytest.mark.filterwarnings("ignore:Validating sparse:UserWarning")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        *(
            (changed(key), f"'{key}' is missing")
            for key in ("step", "method", "optimizer", "meter", "skipped_in_a_row")
        ),
        (changed("step", to="3"), "step is text"),
        (changed("step", to=True), "step is true or false"),
        (changed("method", to=[]), "method is a list"),
        (changed("method", "0.bias"), "0.bias is missing"),
        (changed("method", "more", to=torch.zeros(1)), "more is not part of it"),
        (changed("method", "0.bias", to=torch.zeros(4)), r"0.bias is (4,) float32, not (3,) float32"),
        (changed("method", "0.bias", to=torch.zeros(3, dtype=torch.int32)), "0.bias is (3,) int32"),
        (changed("method", "0.bias", to=3.0), "0.bias is not a tensor"),
        (changed("optimizer", "state", 0, "exp_avg", to=torch.zeros(1, 2)), "exp_avg of parameter 0 is (1, 2)"),
        (changed("method", "0.bias", to=torch.zeros(3).to_sparse()), "0.bias is sparse"),
        (changed("optimizer", "state", 1, "step", to=torch.zeros(()).to_sparse()), "step of parameter 1 is sparse"),
        (changed("optimizer", "state", 1, "exp_avg_sq", to="x"), "exp_avg_sq of parameter 1 is str"),
        (changed("optimizer", "state", 1, "step", to=torch.zeros(3)), "step of parameter 1 is (3,)"),
        (changed("optimizer", "state", 1, "exp_avg_sq"), "step, exp_avg of parameter 1, not step, exp_avg, exp_avg_sq"),
        (changed("optimizer", "state", 1, to={}), "keeps nothing of parameter 1"),
        (changed("optimizer", "state", 1, "more", to=torch.zeros(3)), "exp_avg_sq, more of parameter 1"),
        (lambda value: value["optimizer"]["state"][0].update(exp_avg=None), "exp_avg of parameter 0 is NoneType"),
        (changed("optimizer", "state", 99, to={}), "states of no parameter"),
        (changed("optimizer", "state", to=[]), "optimizer.state is a list"),
        (changed("optimizer", "param_groups", 0, "params", to=[0]), "other groups of parameters"),
        (changed("optimizer", "param_groups", 0, "betas", to=("x", 0.9)), "optimizer's betas is of the wrong kind"),
        (changed("optimizer", "param_groups", 0, "lr"), "param_groups[0].lr' is missing"),
        (changed("meter", "counts", "loss"), "running means"),
        (changed("meter", "counts", "loss", to=0), "running means"),
        (changed("meter", "sums", "loss", to=torch.zeros(2)), "running means"),
        (changed("meter", "sums", to=3), "meter.sums is a whole number"),
    ],
)
def test_another_content_is_refused_before_anything_is_loaded(tmp_path: Path, change, why: str) -> None:
    value = state()
    change(value)
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, value)
    with pytest.raises(DamagedFile) as caught:
        resume(path)
    assert why in caught.value.why
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 100, 2000, -30])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DamagedFile, match="it is empty" if size == 0 else "it cannot be read"):
        resume(path)


def test_a_flipped_bit_of_a_weight_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    value = state()
    checkpoint.save(path, value)
    data = bytearray(path.read_bytes())
    data[data.index(value["method"]["0.weight"].numpy().tobytes()) + 5] ^= 16
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match="checksum"):
        resume(path)


def test_the_first_checkpoint_comes_early_and_the_others_at_their_interval(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock, written = Clock(1), []
    for second in range(0, 1000, 5):
        now[0] = float(second)
        if clock.checkpoint_due(300):
            written.append(second)
    assert written == [FIRST + 5, FIRST + 5 + 305, FIRST + 5 + 2 * 305, FIRST + 5 + 3 * 305]
    assert written[0] <= 30


@pytest.mark.parametrize(
    ("content", "kept", "words"),
    [
        (b'{"step": 1}\n{"step": 2}\n{"step": 3}\n', b'{"step": 1}\n{"step": 2}\n', ""),
        (b'{"step": 1}\n{"step": 2}\n{"st', b'{"step": 1}\n{"step": 2}\n', ""),
        (b'{"step": 1}\n\xff\xfe\n{"step": 2}\n', b'{"step": 1}\n{"step": 2}\n', "1 of its 3 lines cannot be read"),
        (b"", b"", "is empty: the log begins anew after step 2"),
        (None, None, "is gone: the log begins anew after step 2"),
    ],
)
def test_a_log_goes_back_to_the_checkpoint_and_says_what_is_lost(tmp_path: Path, content, kept, words: str) -> None:
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert words in (log.rewind(path, 2) or "-" if words else log.rewind(path, 2) or "")
    assert (path.read_bytes() if path.exists() else None) == kept
