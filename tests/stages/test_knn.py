"""``sslkit knn``: what it writes, and what can be wrong with features."""

import json

import numpy as np
import pytest
from conftest import read_npz, write_features
from feature_blobs import blobs, in_memory

from sslkit.data.class_balanced import share
from sslkit.probes.classify.knn import knn


def test_command_on_features_of_another_program(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(300, 3, 0), blobs(60, 3, 1))
    code, out, _ = sslkit("knn", run, "--json")
    results = json.loads(out)
    assert code == 0 and [row["k"] for row in results["sweep"]] == [10, 20, 100, 200]
    assert results["k"] == 20 and results["top1"] == results["sweep"][1]["top1"] > 60
    assert json.loads((run / "knn/results.json").read_text()) == results
    saved = read_npz(run / "knn/predictions.npz")
    assert np.isclose(100 * (saved["predicted"] == saved["labels"]).mean(), results["top1"])
    again = sslkit("knn", run)
    assert again[0] == 0 and "up to date" in again[2] and "20" in again[1]


def test_a_bank_of_few_labels(tmp_path, sslkit):
    (x, y), val = blobs(300, 3, 0), blobs(60, 3, 1)
    run = write_features(tmp_path, (x, y), val)
    assert sslkit("knn", run, "--label-fraction", 0.2, "--seed", 3)[0] == 0
    results = json.loads((run / "knn-labels-0.2/results.json").read_text())
    kept = share(y, 0.2, 3)
    direct = knn(in_memory(x[kept], y[kept]), in_memory(*val))
    assert results["sweep"] == direct.sweep and results["train_images"] == len(kept) == 60
    saved = read_npz(run / "knn-labels-0.2/predictions.npz")
    assert saved["predicted"].tolist() == direct.predicted.tolist() and not (run / "knn").exists()
    code, _, err = sslkit("knn", run, "--label-fraction", 0)
    assert code == 2 and "--label-fraction 0" in err and err.count("\n") == 1


def test_results_are_the_same_bytes(tmp_path, sslkit):
    for name in ("a", "b"):
        assert (
            sslkit(
                "knn",
                write_features(tmp_path / name, blobs(60, 3, 0), blobs(30, 3, 1)),
            )[0]
            == 0
        )
    for file in ("results.json", "predictions.npz"):
        assert (tmp_path / "a/knn" / file).read_bytes() == (tmp_path / "b/knn" / file).read_bytes()


def bad(kind: str) -> tuple[tuple, tuple, list[str], int, str]:
    """Features with one thing wrong: train, val, further words, exit code, what the line says."""
    (x, y), (q, t) = blobs(60, 3, 0), blobs(30, 3, 1)
    if kind == "no labels":
        return (x, np.full(60, -1)), (q, t), [], 1, "train/labels.npy has no labels"
    if kind == "no val labels":
        return (x, y), (q, np.full(30, -1)), [], 1, "val/labels.npy has no labels"
    if kind == "one class":
        return (x, np.full(60, 2)), (q, t), [], 1, "only one class (2)"
    if kind == "k too large":
        return (x, y), (q, t), ["--k", "61"], 2, "--k 61: train has 60 labelled images"
    if kind == "nan in train":
        x[17, 3] = np.nan
        return (x, y), (q, t), [], 1, "train/cls.npy: row 17 holds NaN"
    if kind == "infinity in val":
        q[4, 0] = np.inf
        return (x, y), (q, t), [], 1, "val/cls.npy: row 4 holds NaN or infinity"
    if kind == "widths":
        return (x, y), (q[:, :4], t), [], 1, "different encoders"
    if kind == "lengths":
        return (x, y[:50]), (q, t), [], 1, "60 rows and labels.npy has 50"
    if kind == "temperature":
        return (x, y), (q, t), ["--temperature", "0"], 2, "--temperature 0"
    return (x.astype(int), y), (q, t), [], 1, "floats of shape (N, D) are required"


@pytest.mark.parametrize(
    "kind",
    [
        "no labels",
        "no val labels",
        "one class",
        "k too large",
        "nan in train",
        "infinity in val",
        "widths",
        "lengths",
        "temperature",
        "integers",
    ],
)
def test_bad_features_are_one_line(tmp_path, sslkit, kind):
    train, val, words, expected, says = bad(kind)
    code, out, err = sslkit("knn", write_features(tmp_path, train, val), *words)
    assert code == expected and not out
    assert says in err and err.count("\n") == 1, err


def test_missing_stage_is_one_line(tmp_path, sslkit):
    (tmp_path / "run").mkdir()
    code, _, err = sslkit("knn", tmp_path / "run")
    assert code == 1 and "run `sslkit extract" in err and err.count("\n") == 1


def test_labels_absent_is_one_line(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(60, 3, 0), blobs(30, 3, 1))
    (run / "features/train/labels.npy").unlink()
    code, _, err = sslkit("knn", run)
    assert code == 1 and "labels.npy is missing" in err and err.count("\n") == 1
