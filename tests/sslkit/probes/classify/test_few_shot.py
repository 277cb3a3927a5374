"""Few-shot against a naive loop over distances, what a draw is, and the command."""

import numpy as np
import pytest
from feature_blobs import blobs, in_memory

from sslkit.data.class_balanced import shots
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.few_shot import few_shot
from sslkit.probes.classify.knn import knn


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
    (x, y), (q, t) = (
        blobs(66, 6, 0, balanced=True),
        blobs(40, 6, 1, balanced=True),
    )
    found = few_shot(in_memory(x, y), in_memory(q, t), [5, 2], draws=3, seed=4)
    assert found.shots == [2, 5]
    assert found.top1.shape == found.top5.shape == (2, 3)
    for row, count in enumerate(found.shots):
        for draw in range(3):
            top1, top5, predicted = naive(x, y, q, t, count, 4, draw)
            assert np.allclose([found.top1[row, draw], found.top5[row, draw]], [top1, top5]), (count, draw)
            if (count, draw) == (5, 0):
                assert found.predicted.tolist() == predicted


def test_one_shot_is_the_nearest_neighbour():
    train, val = (
        in_memory(*blobs(60, 6, 0, balanced=True)),
        in_memory(*blobs(40, 6, 1, balanced=True)),
    )
    found = few_shot(train, val, [1], draws=1, seed=0)
    neighbour = knn(train.keep(shots(train.labels, 1, 0, 0)), val, [1])
    assert found.predicted.tolist() == neighbour.predicted.tolist()
    assert found.top1.item() == pytest.approx(neighbour.sweep[0]["top1"])


def test_a_class_that_only_val_has_counts_as_wrong():
    x, y = blobs(60, 6, 0, balanced=True)
    assert few_shot(in_memory(x, y), in_memory(x, np.full(60, 8)), [3], 2, 0).top1.tolist() == [[0, 0]]


def test_what_cannot_be_had_is_said():
    train = in_memory(*blobs(60, 6, 0, balanced=True))
    with pytest.raises(SslkitError, match="--shots 11: a class of train has only 10"):
        few_shot(train, train, [1, 11], 2, 0)
    for counts, draws in (([], 1), ([0], 1), ([1], 0)):
        with pytest.raises(UsageError, match="at least one shot"):
            few_shot(train, train, counts, draws, 0)
