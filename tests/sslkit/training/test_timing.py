"""How many epochs fit into so many minutes."""

import json
from types import SimpleNamespace

import pytest

from sslkit.training import timing


def test_an_epoch_is_its_steps_the_look_before_it_and_its_share_of_the_evaluations(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])

    def spend(seconds, result=None):
        now[0] += seconds
        return result

    class Trainer:
        step, steps_per_epoch, features = 0, 100, None
        recipe = SimpleNamespace(monitor=SimpleNamespace(every_epochs=5))
        method = SimpleNamespace(begin_epoch=lambda at, features: spend(7.0, ()))

        def __init__(self):
            self.evaluate = lambda: spend(30.0, {})

        def at(self, step):
            return step

        def train(self, batches):
            """A first step that is slow, and the evaluation that ends every training."""
            spend((self.total - self.step) * 0.5 + (3.0 if self.step == 0 else 0.0))
            self.step = self.total
            self.evaluate()

    found = timing.measure(Trainer(), iter(()))
    assert found.step == pytest.approx(0.5) and found.epoch == pytest.approx(100 * 0.5 + 7 + 30 / 5)


def test_a_dry_run_tells_how_many_epochs_fit(sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, "--device", "cpu", "--workers", 0]
    run = tmp_path / "run"
    code, out, err = sslkit("pretrain", run, *words, "--dry-run", "--minutes", 2, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["epochs that fit"] == pytest.approx(2 / found["minutes per epoch"], rel=0.1)
    assert not (run / "pretrain").exists()
    code, _, err = sslkit("pretrain", run, *words, "--minutes", 2)
    assert code == 2 and "add --dry-run" in err


def test_a_dry_run_knows_the_objects_that_a_mask_looks_at(sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", "attmask", "--recipe", tiny_scale, "--set", "mask.strategy=oracle"]
    code, out, err = sslkit("pretrain", tmp_path / "run", *words, "--device", "cpu", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["GFLOPs per image, training"] > 0, err
