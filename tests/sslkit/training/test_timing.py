"""How many epochs fit into so many minutes."""

import json
from itertools import repeat

import pytest
import torch
from tiny_trainers import trainer_of
from torch import nn

from sslkit.data.batch import Batch
from sslkit.methods.base import Losses, Method
from sslkit.recipe.schema import Recipe
from sslkit.recipe.validation import validated
from sslkit.schedules import Moment
from sslkit.training import timing


class Slow(Method):
    """A method of one parameter, for which each look at the clock is told how long it took."""

    def __init__(self, recipe: Recipe, spend):
        super().__init__(recipe)
        self.weight, self.spend = nn.Parameter(torch.ones(2, 2)), spend

    def forward(self, batch: Batch, at: Moment) -> Losses:
        self.spend(3.5 if at.step == 0 else 0.5)  # the first step compiles and allocates
        return Losses(self.weight.square().sum())

    def begin_epoch(self, at: Moment, features):
        self.spend(7.0)
        return ()

    def preview(self, batch, at):
        raise NotImplementedError

    def exported(self):
        raise NotImplementedError


def test_an_epoch_is_its_steps_what_comes_before_them_and_its_share_of_the_evaluations(monkeypatch, tmp_path):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def spend(seconds: float) -> None:
        now[0] += seconds

    recipe = validated(Recipe, {"train": {"epochs": 20}, "monitor": {"every_epochs": 5, "log_steps": 3}})
    trainer = trainer_of(Slow(recipe, spend), tmp_path, steps_per_epoch=100)
    index = torch.arange(4)
    batches = repeat(Batch(index, index, [torch.zeros(1, 4, 3, 2, 2)], []))
    found = timing.measure(trainer, batches, lambda: spend(30.0))
    assert found.step == pytest.approx(0.5)
    assert found.epoch == pytest.approx(100 * 0.5 + 7 + 30 / 5)
    assert found.between == pytest.approx(7 + 30 / 5)
    assert trainer.step == timing.WARM + timing.TIMED
    # The steps' log is real, up to the last of them; a checkpoint is no part of them.
    steps = [json.loads(line)["step"] for line in trainer.metrics_path.read_text().splitlines()]
    assert steps == [3, 5, 6, 9, 12, 15, 18, 21, 24, 25]
    assert not trainer.checkpoint_path.exists()


def test_a_dry_run_tells_how_many_epochs_fit(sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, "--device", "cpu", "--workers", 0]
    run = tmp_path / "run"
    code, out, err = sslkit("pretrain", run, *words, "--dry-run", "--minutes", 2, "--json")
    assert code == 0, err
    found = json.loads(out)
    parts = found["of these, training"], found["of these, evaluation"]
    assert sum(parts) == pytest.approx(found["minutes per epoch"], abs=0.0011)  # each is rounded to 0.001
    images = found["steps per epoch"] * 16  # in whole batches
    assert parts[0] == pytest.approx(images / found["images per second"] / 60, abs=0.00051)
    assert 2 / found["epochs that fit"] == pytest.approx(found["minutes per epoch"], abs=0.00051)
    assert not (run / "pretrain").exists()
    code, _, err = sslkit("pretrain", run, *words, "--minutes", 2)
    assert code == 2
    assert "add --dry-run" in err


def test_a_dry_run_knows_the_objects_that_a_mask_looks_at(sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", "attmask", "--recipe", tiny_scale, "--set", "mask.strategy=oracle"]
    code, out, err = sslkit("pretrain", tmp_path / "run", *words, "--device", "cpu", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["GFLOPs per image, training"] > 0, err
