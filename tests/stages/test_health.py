"""``sslkit health``: what it writes, and mistakes."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from sslkit.data import shards
from stages.contract.layout import Run


@pytest.fixture
def run(trained_run, tmp_path) -> Run:
    shutil.copytree(trained_run, tmp_path / "run")
    return Run(tmp_path / "run")


COMMON = ("--count", "16", "--timeline-count", "8", "--device", "cpu", "--precision", "fp32")


def test_the_stage_writes_numbers_curves_and_pictures_and_is_up_to_date(run, shapes_run, sslkit):
    words = ("health", run.path, "--data", shapes_run, *COMMON)
    code, out, err = sslkit(*words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results == json.loads(run.results("health").read_text())
    distance, entropy = (np.array(results["per_head"][name]) for name in ("distance", "entropy"))
    assert distance.shape == entropy.shape == (2, 3)
    assert (entropy > 0).all()
    assert (entropy <= results["ln_patches"] + 1e-6).all()
    assert results["ln_patches"] == pytest.approx(math.log(16))
    assert (results["images"], results["timeline_images"], results["width"]) == (16, 8, 24)
    timeline = results["timeline"]
    assert [row["epoch"] for row in timeline] == [epoch for epoch, _ in run.kept_encoders()]
    assert timeline[0]["rankme"] != timeline[-1]["rankme"]
    for picture in results["pictures"]:
        assert (run.folder("health") / picture["file"]).read_bytes()[1:4] == b"PNG"
        assert len(picture["alt"]) > 40
    assert len(results["pictures"]) == 3
    code, out, err = sslkit(*words)
    assert code == 0
    assert "up to date" in err
    assert "RankMe" in out
    assert "layer" in out
    code, _, err = sslkit(*words, "--seed", 1)
    assert code == 1
    assert "--force redoes it" in err
    # The last kept encoder is the run's own: measured on the same images, it has the same numbers.
    code, out, _ = sslkit(*words[:3], shapes_run, "--count", 8, *COMMON[2:], "--json", "--force")
    assert code == 0
    again = json.loads(out)
    assert {key: again[key] for key in measures(again)} == measures(again["timeline"][-1])


def test_a_single_image_is_refused_and_older_results_are_kept(run, shapes_run, sslkit, monkeypatch):
    honest = shards.open_split

    def one(folder: Path, name: str) -> shards.Split:
        split = honest(folder, name)
        split.labels = split.labels[:1]
        return split

    monkeypatch.setattr(shards, "open_split", one)
    run.folder("health").mkdir()
    (run.folder("health") / "older").write_text("")
    code, _, err = sslkit("health", run.path, "--data", shapes_run, *COMMON, "--force")
    assert code == 1
    assert "requires 2 or more" in err
    assert err.count("\n") == 1
    assert [path.name for path in run.folder("health").iterdir()] == ["older"]


def measures(row: dict) -> dict:
    return {key: row[key] for key in ("rankme", "alignment", "uniformity", "feature_std")}


def test_curves_and_heads_that_cannot_be_measured_are_noted(run, shapes_run, sslkit):
    shutil.rmtree(run.pretrain / "kept")
    code, out, err = sslkit("health", run.path, "--data", shapes_run, *COMMON, "--views", "recipe", "--json")
    results = json.loads(out)
    assert code == 0
    assert results["timeline"] == []
    assert "--keep-every" in err
    assert results["views"] == "recipe"
    assert run.results("health:recipe-views").exists()
    assert not run.results("health").exists()
    words = ("--weights", "random", "--arch", "resnet18", "--data", shapes_run, "--json")
    code, out, err = sslkit("health", run.path.parent / "resnet", *words, *COMMON)
    results = json.loads(out)
    assert code == 0
    assert "not a ViT" in err
    assert "keep-every" not in err
    assert "per_head" not in results
    assert results["pictures"] == []
    assert results["width"] == 512


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--weights", "pixels"), "no encoder"),
        (("--views", "odd"), "must be standard or recipe"),
        ((), "pretrain"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path, shapes_run, sslkit, words, message):
    code, _, err = sslkit("health", tmp_path / "new", "--data", shapes_run, *words)
    assert code in (1, 2)
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new" / "health").exists()
