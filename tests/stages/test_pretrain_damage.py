"""What an interrupted training run leaves, damaged in one way each: refused by name, or finished as it should be."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import succeed

from sslkit.training import log

QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]
EACH_STEP = ["--set", "train.checkpoint_minutes=1e-9"]
STOP = 4  # logged steps before the interruption


@pytest.fixture(scope="module")
def words(shapes_run, tiny_scale) -> list[object]:
    return ["--data", shapes_run, "--recipe", "mae", "--recipe", tiny_scale, *QUICK, *EACH_STEP]


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    succeed("pretrain", run, *words)
    return run


@pytest.fixture
def stopped(words, sslkit, tmp_path, monkeypatch) -> Path:
    """A run that was interrupted between two steps."""
    whole, count = log.append, []

    def interrupt(*given: object) -> None:
        whole(*given)
        count.append(1)
        if len(count) == STOP:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", interrupt)
        assert sslkit("pretrain", tmp_path / "run", *words)[0] == 130
    return tmp_path / "run"


def weights(run: Path) -> bytes:
    return (run / "pretrain/encoder.safetensors").read_bytes()


def with_step(step: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        torch.save({**state, "step": step}, path)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_step(10_000), "it is of step 10000, but the run has 10 steps"),
        (with_step(-1), "it is of step -1, but the run has 10 steps"),
        (lambda path: path.write_bytes(b""), "checkpoint.pt is damaged: it is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "checkpoint.pt is damaged"),
    ],
    ids=["beyond the end", "before the start", "empty", "cut"],
)
def test_a_damaged_checkpoint_is_refused(damage, message, stopped, words, sslkit):
    damage(stopped / "pretrain/checkpoint.pt")
    code, _, err = sslkit("pretrain", stopped, *words)
    assert code == 1
    assert message in err.splitlines()[-1]
    assert "a bug?" not in err
    assert not (stopped / "pretrain/encoder.safetensors").exists()


def test_the_checkpoint_of_another_run_is_refused_though_it_fits(stopped, undisturbed, words, sslkit, tmp_path):
    assert sslkit("pretrain", tmp_path / "other", *words, "--seed", 1)[0] == 0
    shutil.copy(tmp_path / "other/pretrain/checkpoint.pt", stopped / "pretrain/checkpoint.pt")
    code, _, err = sslkit("pretrain", stopped, *words)
    assert code == 1
    assert "it is the checkpoint of a run with other settings or other data; redo it with `sslkit pretrain" in err
    # Its own checkpoint of a finished run, which has the step of the end, is good.
    shutil.copy(undisturbed / "pretrain/checkpoint.pt", stopped / "pretrain/checkpoint.pt")
    assert sslkit("pretrain", stopped, *words)[0] == 0
    assert weights(stopped) == weights(undisturbed)


def test_a_checkpoint_of_a_version_without_such_a_digest_is_resumed(stopped, undisturbed, words, sslkit):
    path = stopped / "pretrain/checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["run"]
    torch.save(state, path)
    assert sslkit("pretrain", stopped, *words)[0] == 0
    assert weights(stopped) == weights(undisturbed)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "empty"])
def test_a_run_finishes_without_its_log_and_says_what_is_lost(damage, stopped, undisturbed, words, sslkit):
    damage(stopped / "pretrain/metrics.jsonl")
    code, _, err = sslkit("pretrain", stopped, *words)
    assert code == 0
    assert "resuming at step 3 of 10" in err
    assert "metrics.jsonl" in err
    assert weights(stopped) == weights(undisturbed)


def test_a_run_without_a_checkpoint_says_that_it_starts_again(stopped, undisturbed, words, sslkit):
    (stopped / "pretrain/checkpoint.pt").unlink()
    code, _, err = sslkit("pretrain", stopped, *words)
    assert code == 0
    assert "there is no checkpoint of the earlier attempt: starting from the beginning" in err
    assert weights(stopped) == weights(undisturbed)


def test_a_short_run_whose_loss_was_never_finite_fails_with_advice(words, sslkit, tmp_path):
    code, _, err = sslkit("pretrain", tmp_path / "run", *words, "--lr", "1e30", "--set", "optim.clip=null")
    assert code == 1
    assert "lower --lr" in err
    assert not (tmp_path / "run/pretrain/encoder.safetensors").exists()


def test_extract_looks_at_new_weights_before_old_features_go(trained_run, tmp_path, sslkit):
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    kept = (run / "features/val/cls.npy").read_bytes()
    code, _, err = sslkit("extract", run, "--force", "--weights", tmp_path / "broken.pth", "--device", "cpu")
    assert code == 1
    assert "broken.pth" in err
    assert (run / "features/val/cls.npy").read_bytes() == kept
