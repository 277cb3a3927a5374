"""k-NN against the papers' numbers, a naive loop, and what can be wrong with features."""

import numpy as np
import pytest
from conftest import FIXTURES, read_npz
from feature_blobs import blobs, in_memory

from sslkit.errors import UsageError
from sslkit.probes.classify.knn import knn, usable_ks

ORACLE = FIXTURES / "knn.npz"


def test_the_papers_numbers_exactly():
    oracle = read_npz(ORACLE)
    found = knn(in_memory(oracle["train"], oracle["train_labels"]), in_memory(oracle["test"], oracle["test_labels"]))
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
    found = knn(in_memory(train, train_labels), in_memory(val, val_labels), [7, 1, 20, 70], temperature)
    for row in found.sweep:
        top1, top5, predicted = naive(train, train_labels, val, val_labels, row["k"], temperature)
        assert (row["top1"], row["top5"]) == (top1, top5), row["k"]
        if row["k"] == found.k:
            assert found.predicted.tolist() == predicted


def test_queries_in_pieces_change_nothing(monkeypatch):
    train, val = in_memory(*blobs(60, 4, 0)), in_memory(*blobs(50, 4, 1))
    whole = knn(train, val)
    monkeypatch.setattr("sslkit.probes.classify.knn.QUERIES", 7)
    assert knn(train, val).sweep == whole.sweep


def test_unlabelled_rows_are_left_out():
    train, train_labels = blobs(60, 3, 0)
    val = in_memory(*blobs(30, 3, 1))
    poisoned = np.concatenate([train, val.parts[0]])  # would be every query's nearest neighbour
    labels = np.concatenate([train_labels, np.full(30, -1)])
    assert knn(in_memory(poisoned, labels), val).sweep == knn(in_memory(train, train_labels), val).sweep


def test_a_class_that_only_val_has_counts_as_wrong():
    train, labels = blobs(60, 3, 0)
    val = in_memory(train, np.full(60, 9))
    assert knn(in_memory(train, labels), val).sweep[0]["top1"] == 0


def test_the_sweep_keeps_the_ks_that_fit():
    assert usable_ks(None, 1000) == ([10, 20, 100, 200], 20, "")
    ks, headline, remark = usable_ks(None, 50)
    assert (ks, headline) == ([10, 20], 20)
    assert "100, 200 left out" in remark
    assert usable_ks(None, 15)[1] == 10
    assert usable_ks([5, 3], 5) == ([5, 3], 5, "")
    for asked, size in (([6], 5), ([0], 5), (None, 9)):
        with pytest.raises(UsageError, match=f"train has {size} labelled images"):
            usable_ks(asked, size)
