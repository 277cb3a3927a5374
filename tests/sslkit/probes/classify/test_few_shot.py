"""Few-shot against a naive loop over distances, what a draw is, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import write_features

from sslkit.data.labels import shots
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.few_shot import few_shot
from sslkit.probes.classify.knn import knn
from sslkit.probes.features.features import Features


def split(features: np.ndarray, labels: np.ndarray) -> Features:
    rows = np.flatnonzero(labels >= 0)
    return Features(Path("cls.npy"), (features,), labels[rows], rows)


def blobs(count: int, classes: int, seed: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (random.normal(size=(count, width)) + 2 * np.eye(classes, width)[labels]).astype(np.float32), labels


def naive(train, labels, val, truth, count, seed, draw):
    """Straight from the definition: (top-1, top-5 in percent, predictions)."""
    unit = [row / np.linalg.norm(row) for row in train.astype(np.float64)]
    chosen = shots(labels, count, seed, draw)
    means = {c: np.mean([unit[i] for i in chosen if labels[i] == c], 0) for c in sorted(set(labels.tolist()))}
    rankings = []
    for row in val.astype(np.float64):
        query = row / np.linalg.norm(row)
        rankings.append(sorted(means, key=lambda c: np.sum((query - means[c]) ** 2)))
    top1 = [ranking[0] == t for ranking, t in zip(rankings, truth, strict=True)]
    top5 = [t in ranking[:5] for ranking, t in zip(rankings, truth, strict=True)]
    return 100 * np.mean(top1), 100 * np.mean(top5), [ranking[0] for ranking in rankings]


def test_a_naive_loop_agrees(monkeypatch):
    monkeypatch.setattr("sslkit.probes.classify.few_shot.QUERIES", 7)
    (x, y), (q, t) = blobs(66, 6, 0), blobs(40, 6, 1)
    found = few_shot(split(x, y), split(q, t), [5, 2], draws=3, seed=4)
    assert found.shots == [2, 5] and found.top1.shape == found.top5.shape == (2, 3)
    for row, count in enumerate(found.shots):
        for draw in range(3):
            top1, top5, predicted = naive(x, y, q, t, count, 4, draw)
            assert np.allclose([found.top1[row, draw], found.top5[row, draw]], [top1, top5]), (count, draw)
            if (count, draw) == (5, 0):
                assert found.predicted.tolist() == predicted


def test_one_shot_is_the_nearest_neighbour():
    train, val = split(*blobs(60, 6, 0)), split(*blobs(40, 6, 1))
    found = few_shot(train, val, [1], draws=1, seed=0)
    neighbour = knn(train.keep(shots(train.labels, 1, 0, 0)), val, [1])
    assert found.predicted.tolist() == neighbour.predicted.tolist()
    assert found.top1.item() == pytest.approx(neighbour.sweep[0]["top1"])


def test_a_class_that_only_val_has_counts_as_wrong():
    x, y = blobs(60, 6, 0)
    assert few_shot(split(x, y), split(x, np.full(60, 8)), [3], 2, 0).top1.tolist() == [[0, 0]]


def test_what_cannot_be_had_is_said():
    train = split(*blobs(60, 6, 0))
    with pytest.raises(SslkitError, match="--shots 11: a class of train has only 10"):
        few_shot(train, train, [1, 11], 2, 0)
    for counts, draws in (([], 1), ([0], 1), ([1], 0)):
        with pytest.raises(UsageError, match="at least one shot"):
            few_shot(train, train, counts, draws, 0)


# From here on: the command.


def test_command(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(120, 3, 0), blobs(60, 3, 1))
    code, out, _ = sslkit("knn", run, "--shots", "20,1", "--draws", 5, "--json")
    results = json.loads(out)
    assert code == 0 and [row["shots"] for row in results["shots"]] == [1, 20]
    direct = few_shot(split(*blobs(120, 3, 0)), split(*blobs(60, 3, 1)), [1, 20], 5, 0)
    half = 2.7764 * direct.top1.std(1, ddof=1) / np.sqrt(5)  # Student's t with 4 degrees of freedom
    for row, mean, interval in zip(results["shots"], direct.top1.mean(1), half, strict=True):
        assert (row["top1"], row["draws"]) == (pytest.approx(mean), 5)
        assert row["interval"] == pytest.approx(interval, rel=1e-4)
    assert results["top1"] == results["shots"][1]["top1"] > results["shots"][0]["top1"]
    assert json.loads((run / "knn-shots/results.json").read_text()) == results
    saved = np.load(run / "knn-shots/predictions.npz")
    assert saved["predicted"].tolist() == direct.predicted.tolist() and saved["rows"].tolist() == list(range(60))
    assert not (run / "knn").exists() and "up to date" in sslkit("knn", run, "--shots", "1,20", "--draws", 5)[2]
    code, _, err = sslkit("knn", run, "--shots", "1,2", "--draws", 5)
    assert code == 1 and "--force redoes it" in err


def test_one_draw_has_no_interval(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(120, 3, 0), blobs(60, 3, 1))
    code, out, _ = sslkit("knn", run, "--shots", "1", "--draws", 1)
    assert code == 0 and "±" not in out
    assert json.loads((run / "knn-shots/results.json").read_text())["shots"][0]["interval"] is None


@pytest.mark.parametrize(
    ("words", "expected", "says"),
    [
        (["--shots", "none"], 2, "such as 1,5,10"),
        (["--shots", "0,1"], 2, "such as 1,5,10"),
        (["--shots", "1", "--k", 5], 2, "leave out --k and --label-fraction"),
        (["--shots", "50"], 1, "has only 40 labelled images"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, sslkit, words, expected, says):
    run = write_features(tmp_path, blobs(120, 3, 0), blobs(60, 3, 1))
    code, out, err = sslkit("knn", run, *words)
    assert code == expected and not out
    assert says in err and err.count("\n") == 1, err
