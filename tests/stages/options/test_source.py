"""The source that ``sslkit prepare`` is given, left out or called by another's name."""

import json
from pathlib import Path

import numpy as np
import pytest

from sslkit.data import images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    """Class folders of photos, in the working directory; there is no network."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((8, 8, 3), 40 * i, np.uint8)
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(images.encode_png(pixels))

    def refuse(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def test_images_that_are_generated_because_no_source_was_named_are_called_that(sslkit, tmp_path):
    words = [tmp_path / "run", "--per-class", 1, "--subset-val", "--workers", 0]
    code, out, err = sslkit("prepare", *words)
    assert code == 0
    assert (
        err.count("no --source was given, so these are generated images (shapes); for your own add --source PATH") == 1
    )
    assert "source shapes" in out
    code, _, err = sslkit("prepare", *words, "--source", "shapes")  # the same data
    assert code == 0
    assert err == "up to date\n"
    code, out, err = sslkit("prepare", *words, "--json")
    assert json.loads(out)["source"] == "shapes"
    assert "no --source was given" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--root photos goes with a --source NAME; --source photos recognises what it holds"),
        (["--source", "shapes"], "the source 'shapes' takes no --root: --source photos recognises what it holds"),
        (["--source", "digits"], "the source 'digits' takes no --root: --source photos recognises what it holds"),
    ],
)
def test_a_place_that_would_not_be_looked_at_is_refused(sslkit, photos, words, message):
    code, out, err = sslkit("prepare", "run", "--root", photos, *words)
    assert (code, out, err) == (2, "", f"sslkit: {message}\n")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("cifar10", "there is no cifar-10-batches-py in photos, and CIFAR10 could not be downloaded"),
        ("cifar100", "there is no cifar-100-python in photos, and CIFAR100 could not be downloaded"),
        ("stl10", "No train_X.bin found in photos"),
        ("tiny_imagenet", "No train images found in photos"),
        ("imagenet", "No train images found in photos"),
        ("imagenet32", "no train_data_batch_* in photos"),
        ("parquet", "no parquet file of train in photos"),
        ("shards", "no tars in photos"),
    ],
)
def test_a_folder_that_another_source_reads_is_said_to_be_that(sslkit, photos, name, first):
    code, _, err = sslkit("prepare", "run", "--source", name, "--root", photos, "--workers", 0)
    assert code
    assert err.startswith(f"sslkit: {first}")
    assert err.endswith("; photos holds images: --source photos takes them\n")
    assert err.count("\n") == 1


def test_a_folder_that_no_source_reads_gets_no_advice_to_read_it(sslkit, photos):
    Path("empty").mkdir()
    _, _, err = sslkit("prepare", "run", "--source", "cifar10", "--root", "empty", "--workers", 0)
    assert err.startswith("sslkit: there is no cifar-10-batches-py in empty, and CIFAR10 could not be downloaded")
    assert "--source empty" not in err
