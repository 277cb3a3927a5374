"""Stages say where the images are smaller than what the encoder takes."""

import pytest
from PIL import Image
from processes import succeed

QUICK = ["--device", "cpu", "--precision", "fp32"]
FINETUNE = ["--epochs", 1, "--batch-size", 8, "--workers", 0]
ENLARGED = "(at most 16 x 16 px) are enlarged to the 32 px that the encoder takes"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """20 + 10 images of 16 px, for an encoder of 32 px."""
    run = tmp_path_factory.mktemp("small") / "run"
    succeed("prepare", run, *["--source", "shapes", "--per-class", 2, "--subset-val", "--size", 16, "--workers", 0])
    return run


@pytest.mark.parametrize(
    ("stage", "splits", "words"),
    [
        ("extract", "train and val", []),
        ("finetune", "train and val", FINETUNE),
        ("health", "val", ["--count", 4]),
        ("segment", "val", ["--count", 2, "--protocol", "attention"]),
    ],
)
def test_a_stage_says_that_prepared_images_are_enlarged(sslkit, small_run, trained_run, tmp_path, stage, splits, words):
    like = ["--weights", "random", "--like", trained_run]
    code, _, err = sslkit(stage, tmp_path / "run", "--data", small_run, *like, *words, *QUICK)
    assert code == 0, err
    assert f"images of {splits} {ENLARGED}" in err


def test_nothing_is_said_where_images_are_large_enough(sslkit, trained_run, shapes_run, tmp_path):
    words = ["--weights", "random", "--like", trained_run, "--data", shapes_run]
    assert "enlarged" not in sslkit("health", tmp_path / "run", *words, "--count", 4, *QUICK)[2]


def test_photos_that_are_enlarged_are_counted(sslkit, trained_run, tmp_path):
    (tmp_path / "photos").mkdir()
    for name, size in {"a": (40, 20), "b": (64, 48), "c": (36, 34)}.items():
        Image.new("RGB", size, (90, 60, 30)).save(tmp_path / "photos" / f"{name}.png")
    words = ["--weights", "random", "--like", trained_run, "--images", tmp_path / "photos", *QUICK]
    code, _, err = sslkit("attn-viz", tmp_path / "run", *words)
    assert code == 0, err
    assert "1 of 3 images is enlarged to a shorter side of 32 px (the smallest has 40 x 20 px)" in err
    err = sslkit("attn-viz", tmp_path / "run", *words, "--image-size", 56, "--force")[2]
    assert "3 images are enlarged to a shorter side of 56 px (the smallest has 40 x 20 px)" in err
