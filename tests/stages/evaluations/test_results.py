"""The results of stages as typed values, and the seeds of an experiment joined."""

from pathlib import Path

import numpy as np
import pytest

from sslkit.files import sha256, write_json
from sslkit.statistics.intervals import wilson
from stages.contract.layout import Run
from stages.evaluations.members import estimates, read_member
from stages.evaluations.recipes import differing, settings
from stages.evaluations.results import Evaluation


def write(path: Path, stage: str, results: dict, status: str = "done", **facts) -> None:
    """A stage's record with these results."""
    record = {"status": status, "results": results, "config": {}, "inputs": {}, "outputs": {}, **facts}
    write_json(Run(path).folder(stage) / "stage.json", record)


def evaluations(path: Path) -> dict[str, Evaluation]:
    return read_member(path, path.name).evaluations


def test_what_people_call_a_result_comes_from_its_stage(tmp_path: Path) -> None:
    for stage in ("knn", "linear:augment", "finetune:labels-0.1", "finetune:random-labels-0.1", "segment"):
        write(tmp_path, stage, {"headline": {"miou": 30.0}} if stage == "segment" else {"top1": 30.0})
    write(tmp_path / "on" / "cars", "segment", {"headline": {"jaccard": 30.0}})
    assert {key: evaluation.title for key, evaluation in evaluations(tmp_path).items()} == {
        "knn": "k-NN",
        "linear:augment": "linear, augment",
        "finetune:labels-0.1": "fine-tuned, labels-0.1",
        "finetune:random-labels-0.1": "random weights, fine-tuned, labels-0.1",
        "segment miou": "segmentation mIoU",
        "segment jaccard on cars": "segmentation Jaccard on cars",
    }


def test_only_stages_that_are_done_and_evaluate_have_evaluations(tmp_path: Path) -> None:
    write(tmp_path, "knn", {"top1": 30.0}, status="failed")
    write(tmp_path, "neighbours", {"top1": 30.0})
    write(tmp_path, "linear", {"top1": None, "headline": {"flag": True, "words": "x"}})
    assert evaluations(tmp_path) == {}


def test_the_interval_is_over_the_val_images_where_their_number_is_known(tmp_path: Path) -> None:
    write(tmp_path, "knn", {"top1": 40.0, "val_images": 200})
    write(tmp_path, "linear", {"top1": 40.0})
    write(tmp_path, "finetune", {"top1": 40.0})
    write(tmp_path, "segment", {"headline": {"miou": 40.0}})
    fifty = np.arange(50)
    np.savez(Run(tmp_path).predictions("linear"), rows=fifty, labels=fifty, predicted=fifty)
    spreads = {key: evaluation.spread for key, evaluation in evaluations(tmp_path).items()}
    assert spreads == {"knn": wilson(40, 200), "linear": wilson(40, 50), "finetune": None, "segment miou": None}


@pytest.mark.parametrize(
    ("draws", "half", "title", "spread"),
    [
        (20, 1.5, "few-shot, 10 shots, mean of 20 draws", (38.5, 41.5)),
        (1, None, "few-shot, 10 shots, 1 draw", None),
    ],
)
def test_few_shot_has_the_interval_over_its_draws(tmp_path: Path, draws, half, title, spread) -> None:
    rows = [{"shots": n, "top1": 40.0, "interval": half, "draws": draws} for n in (1, 10)]
    write(tmp_path, "knn:shots", {"top1": 40.0, "shots": rows, "val_images": 200})
    (found,) = evaluations(tmp_path).values()
    assert found.full_title == title
    assert found.title == "few-shot"
    assert found.spread == spread


def test_the_weights_are_those_of_the_stage_or_of_its_features(tmp_path: Path) -> None:
    write(tmp_path, "extract", {}, config={"weights": "random"})
    write(tmp_path, "knn", {"top1": 40.0})
    write(tmp_path, "finetune", {"top1": 40.0}, config={"weights": "run"})
    weights = {key: evaluation.stage.weights for key, evaluation in evaluations(tmp_path).items()}
    assert weights == {"knn": "random", "finetune": "run"}


def test_seeds_are_joined_and_stale_if_one_of_them_is(tmp_path: Path) -> None:
    paths = [tmp_path / f"a-s{seed}" for seed in range(3)]
    for path, top1 in zip(paths, (44.0, 45.0, 46.0), strict=True):
        write(path, "knn", {"top1": top1})
    write(paths[0], "linear", {"top1": 50.0, "val_images": 100})
    (paths[0] / "input").write_text("old")
    inputs = {"features": {"path": "input", "sha256": sha256(paths[0] / "input")}}
    write(paths[0], "linear", {"top1": 50.0, "val_images": 100}, inputs=inputs)
    (paths[0] / "input").write_text("new")
    found = estimates([read_member(path, "a") for path in paths])
    # 4.3027 / sqrt(3)
    assert (found["knn"].value, found["knn"].half) == (45.0, pytest.approx(2.484, abs=1e-3))
    assert found["knn"].ends == pytest.approx((42.516, 47.484), abs=1e-3)
    assert not found["knn"].stale
    assert (found["linear"].value, found["linear"].half) == (50.0, None)
    assert found["linear"].ends == wilson(50, 100)
    assert found["linear"].stale


def test_recipes_differ_in_the_settings_whose_values_are_not_the_same(tmp_path: Path) -> None:
    recipes = {
        "a": [{"train": {"epochs": 1, "seed": 0}, "mask": None}, {"train": {"epochs": 1, "seed": 1}, "mask": None}],
        "b": [{"train": {"epochs": 2, "seed": 0}, "mask": {"ratio": 0.5}}],
        "no_training": [{}],
    }
    groups = {}
    for name, seeds in recipes.items():
        for seed, recipe in enumerate(seeds):
            write(tmp_path / f"{name}-s{seed}", "pretrain", {}, config=recipe)
        groups[name] = [read_member(tmp_path / f"{name}-s{seed}", name) for seed in range(len(seeds))]
    assert settings(groups) == ["mask.ratio", "train.epochs", "train.seed"]
    assert differing(groups) == {
        "mask.ratio": {"a": None, "b": 0.5},
        "train.epochs": {"a": 1, "b": 2},
        "train.seed": {"a": [0, 1], "b": 0},
    }
