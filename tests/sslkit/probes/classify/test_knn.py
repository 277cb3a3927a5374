"""k-NN against the papers' numbers, a naive loop, and what can be wrong with features."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES, write_features

from sslkit.data.labels import share
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.knn import knn, usable_ks
from sslkit.probes.features.features import Features, open_features

ORACLE = FIXTURES / "knn.npz"


def split(features: np.ndarray, labels: np.ndarray) -> Features:
    rows = np.flatnonzero(labels >= 0)
    return Features(Path("cls.npy"), (features,), labels[rows], rows)


def blobs(count: int, classes: int, seed: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Rows around the corners of a cube, so that classes overlap but are told apart."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return (random.normal(size=(count, width)) + 2 * np.eye(classes, width)[labels]).astype(np.float32), labels


def test_the_papers_numbers_exactly():
    oracle = np.load(ORACLE)
    found = knn(split(oracle["train"], oracle["train_labels"]), split(oracle["test"], oracle["test_labels"]))
    assert [row["k"] for row in found.sweep] == oracle["k"].tolist()
    assert [row["top1"] for row in found.sweep] == oracle["top1"].tolist()
    assert [row["top5"] for row in found.sweep] == oracle["top5"].tolist()
    assert found.k == 20


def naive(train, train_labels, val, val_labels, k, temperature):
    """Straight from the definition: (top-1, top-5 in percent, predictions)."""
    hits1 = hits5 = 0
    predicted = []
    classes = max(train_labels.max(), val_labels.max()) + 1
    for query, truth in zip(val.astype(np.float64), val_labels, strict=True):
        cosine = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in train.astype(np.float64)]
        votes = [0.0] * classes
        for neighbour in sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]:
            votes[train_labels[neighbour]] += np.exp(cosine[neighbour] / temperature)
        ranking = sorted(range(classes), key=lambda c: (-votes[c], c))
        hits1 += ranking[0] == truth
        hits5 += truth in ranking[:5]
        predicted.append(ranking[0])
    return 100 * hits1 / len(val), 100 * hits5 / len(val), predicted


@pytest.mark.parametrize(("classes", "temperature"), [(3, 0.07), (6, 0.5)])
def test_a_naive_loop_agrees(classes, temperature):
    # Few neighbours of few classes: most votes are zero, and ties decide top-5.
    train, train_labels = blobs(70, classes, 0)
    val, val_labels = blobs(40, classes, 1)
    found = knn(split(train, train_labels), split(val, val_labels), [7, 1, 20, 70], temperature)
    for row in found.sweep:
        top1, top5, predicted = naive(train, train_labels, val, val_labels, row["k"], temperature)
        assert (row["top1"], row["top5"]) == (top1, top5), row["k"]
        if row["k"] == found.k:
            assert found.predicted.tolist() == predicted


def test_queries_in_pieces_change_nothing(monkeypatch):
    train, val = split(*blobs(60, 4, 0)), split(*blobs(50, 4, 1))
    whole = knn(train, val)
    monkeypatch.setattr("sslkit.probes.classify.knn.QUERIES", 7)
    assert knn(train, val).sweep == whole.sweep


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_memory_of_the_features_is_given_back(tmp_path):
    def mapped() -> int:
        lines = Path("/proc/self/smaps").read_text().split("features.npy")[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

    np.save(tmp_path / "features.npy", np.ones((20000, 64), np.float32))
    np.save(tmp_path / "labels.npy", np.arange(20000) % 2)
    features = open_features([tmp_path / "features.npy"], tmp_path / "labels.npy")
    assert sum(float(rows.sum()) for _, rows in features.chunks(1000)) == 20000 * 64
    assert mapped() < 100  # of 5,000 kB


def test_unlabelled_rows_are_left_out():
    train, train_labels = blobs(60, 3, 0)
    val = split(*blobs(30, 3, 1))
    poisoned = np.concatenate([train, val.parts[0]])  # would be every query's nearest neighbour
    labels = np.concatenate([train_labels, np.full(30, -1)])
    assert knn(split(poisoned, labels), val).sweep == knn(split(train, train_labels), val).sweep


def test_a_class_that_only_val_has_counts_as_wrong():
    train, labels = blobs(60, 3, 0)
    val = split(train, np.full(60, 9))
    assert knn(split(train, labels), val).sweep[0]["top1"] == 0


def test_the_sweep_keeps_the_ks_that_fit():
    assert usable_ks(None, 1000) == ([10, 20, 100, 200], 20, "")
    ks, headline, remark = usable_ks(None, 50)
    assert (ks, headline) == ([10, 20], 20) and "100, 200 left out" in remark
    assert usable_ks(None, 15)[1] == 10
    assert usable_ks([5, 3], 5) == ([5, 3], 5, "")
    for asked, size in (([6], 5), ([0], 5), (None, 9)):
        with pytest.raises(UsageError, match=f"train has {size} labelled images"):
            usable_ks(asked, size)


# From here on: the command.


def test_command_on_features_of_another_program(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(300, 3, 0), blobs(60, 3, 1))
    code, out, _ = sslkit("knn", run, "--json")
    results = json.loads(out)
    assert code == 0 and [row["k"] for row in results["sweep"]] == [10, 20, 100, 200]
    assert results["k"] == 20 and results["top1"] == results["sweep"][1]["top1"] > 60
    assert json.loads((run / "knn/results.json").read_text()) == results
    saved = np.load(run / "knn/predictions.npz")
    assert np.isclose(100 * (saved["predicted"] == saved["labels"]).mean(), results["top1"])
    again = sslkit("knn", run)
    assert again[0] == 0 and "up to date" in again[2] and "20" in again[1]


def test_a_bank_of_few_labels(tmp_path, sslkit):
    (x, y), val = blobs(300, 3, 0), blobs(60, 3, 1)
    run = write_features(tmp_path, (x, y), val)
    assert sslkit("knn", run, "--label-fraction", 0.2, "--seed", 3)[0] == 0
    results = json.loads((run / "knn-labels-0.2/results.json").read_text())
    kept = share(y, 0.2, 3)
    direct = knn(split(x[kept], y[kept]), split(*val))
    assert results["sweep"] == direct.sweep and results["train_images"] == len(kept) == 60
    saved = np.load(run / "knn-labels-0.2/predictions.npz")
    assert saved["predicted"].tolist() == direct.predicted.tolist() and not (run / "knn").exists()
    code, _, err = sslkit("knn", run, "--label-fraction", 0)
    assert code == 2 and "--label-fraction 0" in err and err.count("\n") == 1


def test_results_are_the_same_bytes(tmp_path, sslkit):
    for name in ("a", "b"):
        assert sslkit("knn", write_features(tmp_path / name, blobs(60, 3, 0), blobs(30, 3, 1)))[0] == 0
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
        return (x, np.full(60, 2)), (q, t), [], 1, "one class only (2)"
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
    return (x.astype(int), y), (q, t), [], 1, "it needs floats"


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
    code, _, err = sslkit("knn", tmp_path / "run")
    assert code == 1 and "run `sslkit extract" in err and err.count("\n") == 1


def test_labels_absent_is_one_line(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(60, 3, 0), blobs(30, 3, 1))
    (run / "features/train/labels.npy").unlink()
    code, _, err = sslkit("knn", run)
    assert code == 1 and "labels.npy is missing" in err and err.count("\n") == 1


def test_files_that_are_no_arrays(tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    (tmp_path / "cls.npy").write_text("hello")
    with pytest.raises(SslkitError, match=r"cls\.npy is no readable \.npy array"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")
    np.save(tmp_path / "cls.npy", np.array([{}, {}, {}]), allow_pickle=True)
    with pytest.raises(SslkitError, match="no readable"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")
