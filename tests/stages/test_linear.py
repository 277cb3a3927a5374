"""``sslkit linear`` on features: what it writes, the variants of few labels, and mistakes."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import read_npz, write_features
from feature_blobs import blobs

from sslkit.data.class_balanced import share

CPU = torch.device("cpu")


def test_command(tmp_path, sslkit):
    words = ("--epochs", 5, "--device", "cpu", "--json")
    for name in ("a", "b"):
        run = write_features(tmp_path / name, blobs(300, 3, 0, spread=0.3), blobs(60, 3, 1, spread=0.3))
        code, out, _ = sslkit("linear", run, *words)
        assert code == 0
    results = json.loads(out)
    assert results["top1"] > 90
    assert results["top5"] == 100
    assert len(results["sweep"]) == 20
    assert results["held_out_top1"] == max(row["held_out_top1"] for row in results["sweep"])
    assert results["features"] == "cls"
    assert {"lr", "weight_decay"} == set(results["chosen"])
    head = safetensors.torch.load_file(tmp_path / "a/linear/head.safetensors")
    assert head["weight"].shape == (3, 12)
    assert head["bias"].shape == (3,)
    saved, (x, labels) = read_npz(tmp_path / "a/linear/predictions.npz"), blobs(60, 3, 1, spread=0.3)
    predicted = (torch.from_numpy(x) @ head["weight"].T + head["bias"]).argmax(1)
    assert saved["predicted"].tolist() == predicted.tolist()
    assert saved["labels"].tolist() == labels.tolist()
    assert saved["rows"].tolist() == list(range(60))
    for file in ("results.json", "head.safetensors", "predictions.npz"):
        assert (tmp_path / "a/linear" / file).read_bytes() == (tmp_path / "b/linear" / file).read_bytes()


def test_few_labels_are_all_that_is_looked_at(tmp_path, sslkit):
    (x, y), val = blobs(300, 3, 0, spread=0.3), blobs(60, 3, 1, spread=0.3)
    kept = share(y, 0.1, 7)
    others = np.full(300, -1)
    others[kept] = y[kept]
    words = ("--epochs", 3, "--device", "cpu", "--seed", 7)
    run = write_features(tmp_path / "few", (x, y), val)
    assert sslkit("linear", run, *words, "--label-fraction", 0.1)[0] == 0
    results = json.loads((run / "linear-labels-0.1/results.json").read_text())
    assert results["train_images"] == len(kept) == 31
    assert results["label_fraction"] == 0.1
    assert not (run / "linear").exists()
    # As if the other images had no label at all.
    bare = write_features(tmp_path / "bare", (x, others), val)
    assert sslkit("linear", bare, *words)[0] == 0
    for file in ("head.safetensors", "predictions.npz"):
        assert (run / "linear-labels-0.1" / file).read_bytes() == (bare / "linear" / file).read_bytes()


def test_one_label_per_class_is_said(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(300, 3, 0, spread=0.3), blobs(60, 3, 1, spread=0.3))
    code, out, err = sslkit("linear", run, "--epochs", 2, "--label-fraction", 0.005, "--device", "cpu")
    assert code == 0
    assert "one label per class" in err
    assert "the middle one, no label to choose by" in out
    code, _, err = sslkit("linear", run, "--label-fraction", 1.5)
    assert code == 2
    assert "--label-fraction 1.5: must be above 0 and at most 1" in err
    assert err.count("\n") == 1


def test_a_sweep_of_ones_own(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(100, 3, 0), blobs(60, 3, 1))
    code, out, _ = sslkit("linear", run, "--lr", 0.1, "--lr", 1, "--weight-decay", 0, "--epochs", 2, "--json")
    assert code == 0
    assert [row["lr"] for row in json.loads(out)["sweep"]] == [0.1, 1.0]


@pytest.mark.parametrize(
    ("labels", "value", "words", "says"),
    [
        (np.full(60, -1), 0.0, [], "has no labels"),
        (np.full(60, 1), 0.0, [], "only one class (1)"),
        (np.arange(60) % 3, np.nan, [], "holds NaN"),
        (np.arange(60) % 3, np.nan, ["--no-standardize"], "holds NaN"),
        (np.arange(60), 0.0, [], "one per class"),
        (np.arange(60) % 3, 0.0, ["--layers", "4"], "blocks.npy is missing: run `sslkit extract"),
    ],
)
def test_bad_features_are_one_line(tmp_path, sslkit, labels, value, words, says):
    x, _ = blobs(60, 3, 0)
    x[3, 3] += value
    older = tmp_path / "linear" / "results.json"
    older.parent.mkdir()
    older.write_text("{}")
    run = write_features(tmp_path, (x, labels), blobs(30, 3, 1))
    code, out, err = sslkit("linear", run, "--epochs", 1, "--force", *words)
    assert code == 1
    assert not out
    assert list(older.parent.iterdir()) == [older]
    assert says in err, err
    assert err.count("\n") == 1, err


def test_more_than_a_tenth_held_out_is_said(tmp_path, sslkit):
    words = ("--epochs", 1, "--device", "cpu")
    few = write_features(tmp_path / "few", blobs(20, 10, 0, balanced=True), blobs(20, 10, 1, balanced=True))
    code, _, err = sslkit("linear", few, *words)
    assert code == 0
    assert (
        "10 of the 20 labelled train images are held out to choose the settings by, at least one of each class" in err
    )
    many = write_features(tmp_path / "many", blobs(100, 10, 0, balanced=True), blobs(20, 10, 1, balanced=True))
    assert "held out" not in sslkit("linear", many, *words)[2]


def test_what_was_held_out_and_trained_on_is_said(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(120, 3, 0, balanced=True), blobs(60, 3, 1))
    code, out, _ = sslkit("linear", run, "--epochs", 2, "--device", "cpu")
    results = json.loads((run / "linear/results.json").read_text())
    assert code == 0
    assert (results["train_images"], results["held_out_images"]) == (120, 12)
    assert f"chosen by {results['held_out_top1']:.2f} % of 12 held-out train images)" in out
    assert "trained on 120 images of train, those held out included" in out


def test_a_learning_rate_at_the_edge_of_the_grid_is_said(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(400, 8, 0), blobs(60, 8, 1))
    words = ("linear", run, "--epochs", 5, "--device", "cpu", "--weight-decay", 0)
    code, out, _ = sslkit(*words, "--lr", 0.1, "--lr", 1000)
    assert code == 0
    best = [row["held_out_top1"] for row in json.loads((run / "linear/results.json").read_text())["sweep"]]
    assert best[0] > best[1], "the test requires that the smaller rate is better"
    said = f"better on held-out train than 1000 ({best[0]:.1f} against {best[1]:.1f} %): a smaller one may be better"
    assert said in out.splitlines()[-1]
    assert "try --lr 1e-09 --lr 1e-05 --lr 0.1 --lr 1000 --force" in out
    assert "was tried" not in sslkit(*words, "--lr", 0.1, "--force")[1]  # there is no other to compare with
