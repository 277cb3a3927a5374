"""fp16 trains with a loss scale that finds its own level, and a resumed run does not notice."""

import json
from itertools import repeat

import numpy as np
import pytest
import torch
from tiny_trainers import trainer_of

from sslkit.artifacts import DamagedFile
from sslkit.data.batch import Batch
from sslkit.errors import SslkitError
from sslkit.methods.base import Losses, Method
from sslkit.recipe.schema import Recipe
from sslkit.recipe.validation import validated
from sslkit.schedules import Moment
from sslkit.training.loop import Trainer
from sslkit.training.loss_scale import LossScale

CPU = torch.device("cpu")
FP16 = ["--device", "cpu", "--precision", "fp16", "--workers", 0]


class Steep(Method):
    """One parameter; its gradient is ``slope`` in fp16, so that a loss scale above 65504 / slope overflows."""

    def __init__(self, recipe: Recipe, slope: float, fails: dict[int, float] | None = None):
        super().__init__(recipe)
        self.weight = torch.nn.Parameter(torch.ones(2, 2))
        self.slope, self.fails = slope, fails or {}

    def forward(self, batch: Batch, at: Moment) -> Losses:
        half = (self.weight.half() * self.slope).float().mean() * self.weight.numel()
        loss = half * self.fails.get(at.step, 1.0)
        return Losses(loss, {"loss": loss.detach()})

    def preview(self, batch, at):
        raise NotImplementedError

    def exported(self):
        raise NotImplementedError


def trainer(tmp_path, method_of, steps=8, precision="fp16", said=None, log_steps=1) -> Trainer:
    keys = {"train": {"epochs": 1, "max_nonfinite": 3}, "monitor": {"log_steps": log_steps, "every_epochs": 0}}
    recipe = validated(Recipe, {**keys, "optim": {"lr": 0.01, "warmup_epochs": 0}})
    return trainer_of(
        method_of(recipe),
        tmp_path,
        steps,
        precision=precision,
        say=lambda message: said.append(message) if said is not None else None,
    )


def batches():
    index = torch.arange(4)
    return repeat(Batch(index, index, [torch.zeros(1, 4, 3, 2, 2)], []))


def rows(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_a_scale_that_is_too_high_halves_and_is_no_failure(tmp_path):
    said = []
    run = trainer(tmp_path, lambda recipe: Steep(recipe, slope=16.0), said=said)
    run.train(batches())
    # 65536 x 16, 32768 x 16, ... exceed 65504 until the scale is 2048.
    log = rows(tmp_path)
    skipped = [row["step"] for row in log if row.get("skipped") == "loss scale too high"]
    assert skipped == [1, 2, 3, 4, 5]  # more than max_nonfinite
    scales = [row["loss_scale"] for row in log if "loss_scale" in row]
    assert scales == [32768, 16384, 8192, 4096, 2048, 2048, 2048, 2048]
    assert log[-1]["overflows"] == 5
    assert log[-1]["gradient_norm"] == pytest.approx(32)  # of the loss itself: 4 gradients of 16
    assert (run.skipped, run.skipped_in_a_row) == (0, 0)
    assert run.optimizer.state[run.method.weight]["step"] == 3
    assert "5 of 8 steps were skipped because the loss scale was too high" in said[-1]


def test_a_loss_that_is_not_finite_counts_whatever_the_scale(tmp_path):
    run = trainer(tmp_path, lambda recipe: Steep(recipe, 1.0, dict.fromkeys((1, 2, 3), float("nan"))))
    with pytest.raises(SslkitError, match="3 steps in a row gave a loss that is not finite, up to step 4"):
        run.train(batches())


def test_gradients_that_no_scale_makes_finite_end_the_run(tmp_path):
    class Kink(Steep):
        def forward(self, batch, at):
            loss = (self.weight - self.weight).sqrt().sum() + self.weight.sum()  # its gradient is inf - inf
            return Losses(loss, {"loss": loss.detach()})

    run = trainer(tmp_path, lambda recipe: Kink(recipe, 1.0), steps=40)
    with pytest.raises(SslkitError, match="3 steps in a row"):
        run.train(batches())
    assert run.scale.overflows == 16  # from 65536 to 1


def test_clipping_sees_gradients_without_the_scale(tmp_path):
    run = trainer(tmp_path, lambda recipe: Steep(recipe, 0.25))
    run.train(batches())
    # Their norm, 0.5, is below the limit of 3, so Adam's mean of equal gradients is that of unclipped ones.
    state = run.optimizer.state[run.method.weight]
    mean = state["exp_avg"] / (1 - 0.9 ** state["step"])
    torch.testing.assert_close(mean, torch.full((2, 2), 0.25))
    assert rows(tmp_path)[-1]["gradient_norm"] == pytest.approx(0.5)


def test_only_fp16_adds_to_a_checkpoint(tmp_path):
    run = trainer(tmp_path, lambda recipe: Steep(recipe, 0.25), precision="bf16")
    run.train(batches())
    assert "loss_scale" not in torch.load(run.checkpoint_path)
    assert LossScale(CPU, "fp32").state() == {}
    assert LossScale(CPU, "bf16").read() == {}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_between_two_lines_of_the_log_no_value_is_read(tmp_path, monkeypatch, precision):
    reads = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"):
        honest = getattr(torch.Tensor, name)

        def counted(self, *arguments, name=name, honest=honest, **options):
            reads.append((run.step, name))
            return honest(self, *arguments, **options)

        monkeypatch.setattr(torch.Tensor, name, counted)
    run = trainer(tmp_path, lambda recipe: Steep(recipe, 16.0), log_steps=8, precision=precision)
    run.advance(batches(), 8)
    assert reads  # those of the log
    assert {step for step, _ in reads} == {8}


DAMAGE = [{"scale": 0.0}, {"scale": float("inf")}, {"scale": float("nan")}, {"scale": "big"}, {"overflows": -1}]
DAMAGE += [{"backoff_factor": 1.5}, {"growth_factor": float("nan")}, {"_growth_tracker": -1}, {"growth_interval": None}]


@pytest.mark.parametrize("damage", [None, *DAMAGE])
def test_a_damaged_scale_is_refused(tmp_path, damage):
    run = trainer(tmp_path, lambda recipe: Steep(recipe, 0.25))
    run.train(batches())
    state = torch.load(run.checkpoint_path)
    if damage is None:
        del state["loss_scale"]
    else:
        state["loss_scale"] |= damage
    torch.save(state, run.checkpoint_path)
    with pytest.raises(DamagedFile, match=r"loss.scale"):
        trainer(tmp_path, lambda recipe: Steep(recipe, 0.25))


@pytest.mark.parametrize("recipe", ["attmask", "mae"])
def test_a_resumed_run_ends_with_the_same_bytes(recipe, sslkit, shapes_run, tiny_scale, tmp_path, stops_at):
    words = ["--data", shapes_run, "--recipe", recipe, "--recipe", tiny_scale, *FP16, "--epochs", 3]
    assert sslkit("pretrain", tmp_path / "a", *words)[0] == 0
    with stops_at(3):  # in the middle of the search for the scale
        assert sslkit("pretrain", tmp_path / "b", *words)[0] == 143
    assert sslkit("pretrain", tmp_path / "b", *words)[0] == 0
    for name in ("encoder.safetensors", "checkpoint.pt"):
        one, other = ((tmp_path / run / "pretrain" / name).read_bytes() for run in "ab")
        assert one == other, name
    state = torch.load(tmp_path / "a" / "pretrain" / "checkpoint.pt")
    assert state["skipped"] == 0
    assert state["loss_scale"]["overflows"] < state["step"]
    assert np.isfinite(state["last"]["loss"])
