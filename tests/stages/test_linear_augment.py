"""``sslkit linear --augment``: what it writes, and where its encoder comes from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from conftest import read_npz

from sslkit.probes.features.features import open_features

QUICK = ("--device", "cpu", "--workers", 0)


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_command(run, shapes_run, sslkit):
    words = ("linear", run, "--augment", "--layers", 2, "--patch-mean", "--data", shapes_run, *QUICK)
    code, out, err = sslkit(*words, "--epochs", 2, "--json")
    assert code == 0, err
    # 70 images to learn from in steps of at most an eighth; those that fill no step wait for the next epoch's order.
    assert "linear: an epoch (a crop of 63 of the 70 images to learn from, in whole steps of 9) took" in err, err
    results = json.loads(out)
    assert results["augment"]
    assert results["crop_scale"] == [0.08, 1.0]
    assert len(results["sweep"]) == 20
    assert results["train_images"] + results["held_out_images"] == 80
    assert results["held_out_images"] == 10
    assert results["held_out_top1"] == max(row["held_out_top1"] for row in results["sweep"])
    folder = run / "linear-augment"
    assert json.loads((folder / "results.json").read_text()) == results
    assert not (run / "linear").exists()
    head, saved = safetensors.torch.load_file(folder / "head.safetensors"), read_npz(folder / "predictions.npz")
    files = [run / "features/val" / f"{name}.npy" for name in ("blocks", "patch_mean")]
    val = open_features(files, run / "features/val/labels.npy", 2)
    predicted = (val.take(np.arange(len(val))) @ head["weight"].T + head["bias"]).argmax(1).numpy()
    assert saved["predicted"].tolist() == predicted.tolist()
    assert saved["rows"].tolist() == val.rows.tolist()
    assert saved["labels"].tolist() == val.labels.tolist()
    assert results["top1"] == pytest.approx(100 * (predicted == val.labels).mean())
    _, out, err = sslkit(*words, "--epochs", 2)
    assert "up to date" in err
    assert "trained on 70 images of train, without those held out" in out
    assert "% of 10 held-out train images)" in out
    code, _, err = sslkit(*words, "--epochs", 3)
    assert code == 1
    assert "epochs was 2, now 3" in err


def test_the_scale_of_the_crops_is_a_setting(run, shapes_run, sslkit):
    words = ("linear", run, "--augment", "--epochs", 1, "--data", shapes_run, *QUICK, "--crop-scale")
    assert sslkit(*words, 0.5, 1)[0] == 0
    assert json.loads((run / "linear-augment/results.json").read_text())["crop_scale"] == [0.5, 1.0]
    code, _, err = sslkit(*words, 0.6, 1)
    assert code == 1
    assert "--force redoes it" in err
    code, _, err = sslkit(*words, 0.6, 0.5)
    assert code == 2
    assert "--crop-scale 0.6 0.5: must be two rising shares" in err
    assert err.count("\n") == 1


def test_few_labels_and_crops_together(run, shapes_run, sslkit):
    words = (run, "--augment", "--label-fraction", 0.01, "--epochs", 1, "--data", shapes_run, *QUICK)
    code, out, err = sslkit("linear", *words, "--json")
    results = json.loads(out)
    assert code == 0
    assert "took the middle setting, lr 0.03" in err
    assert results["held_out_top1"] is None
    assert results["train_images"] == 10
    assert results["held_out_images"] == 0
    assert (run / "linear-augment-labels-0.01/results.json").exists()


@pytest.mark.parametrize("kind", ["random", "file"])
def test_the_encoder_behind_the_features_is_built_again(trained_run, shapes_run, tmp_path, sslkit, kind):
    kept = trained_run / "pretrain/encoder.safetensors"
    like = {"random": ["--like", trained_run, "--weights", "random", "--seed", 3], "file": ["--weights", kept]}[kind]
    words = (tmp_path / "run", "--data", shapes_run, *QUICK)
    assert sslkit("extract", *words, *like, "--precision", "fp32")[0] == 0
    code, _, err = sslkit("linear", *words, "--augment", "--epochs", 1)
    assert code == 0, err  # the features on disk are compared with the encoder's


def test_other_data_is_judged_below_on(run, shapes_run, tmp_path, sslkit):
    # The run remembers `shapes_run`; the copy is other data.
    shutil.copytree(shapes_run, tmp_path / "other")
    (run / "data/reference.json").write_text(json.dumps({"run": str(shapes_run)}))
    words = (run, "--data", tmp_path / "other")
    assert sslkit("extract", *words, *QUICK, "--precision", "fp32")[0] == 0
    assert sslkit("linear", *words, "--augment", "--label-fraction", 0.5, "--epochs", 1, *QUICK)[0] == 0
    assert sslkit("knn", *words, "--shots", "1", "--draws", 2)[0] == 0
    assert {path.parent.name for path in (run / "on/other").glob("*/results.json")} == {
        "linear-augment-labels-0.5",
        "knn-shots",
    }


def refused(kind: str, run: Path, shapes_run: Path, sslkit) -> tuple[int, str]:
    """Break one thing; the exit code and the line that are expected."""
    if kind == "pixels":
        extract = ("extract", run, "--weights", "pixels", "--data", shapes_run, "--force", *QUICK)
        assert sslkit(*extract)[0] == 0
        return 2, "are raw pixels"
    if kind == "another program's":
        (run / "features/stage.json").unlink()
        return 2, "another program made these features"
    if kind == "changed":
        file = run / "pretrain/encoder.safetensors"
        file.write_bytes(file.read_bytes() + b"\0")
        return 1, "weights changed since the features"
    for name in ("encoder.safetensors", "encoder.json"):
        (run / "pretrain" / name).unlink()
    return 1, "encoder_info, weights changed since the features"


@pytest.mark.parametrize("kind", ["pixels", "another program's", "changed", "gone"])
def test_what_cannot_be_encoded_again_is_one_line(run, shapes_run, sslkit, kind):
    expected, says = refused(kind, run, shapes_run, sslkit)
    code, out, err = sslkit("linear", run, "--augment", "--epochs", 1, "--data", shapes_run, *QUICK)
    assert code == expected
    assert not out
    assert says in err, err
    assert err.count("\n") == 1, err
    assert not (run / "linear-augment").exists()
