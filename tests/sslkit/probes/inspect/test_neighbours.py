"""Neighbours agree with brute force, confusions with a loop, and queries are balanced over classes."""

from pathlib import Path

import numpy as np
import pytest

from sslkit.errors import SslkitError, UsageError
from sslkit.probes.features.features import Features
from sslkit.probes.inspect.neighbours import choose_queries, most_confused, nearest
from sslkit.probes.segmentation.confusion import confusion


def split(features: np.ndarray, labels: np.ndarray) -> Features:
    rows = np.flatnonzero(labels >= 0)
    return Features(Path("cls.npy"), (features,), labels[rows], rows)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Labels of three classes, and predictions of which a third is wrong."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    return labels, np.where(random.random(60) < 0.34, (labels + random.integers(1, 3, 60)) % 3, labels)


def test_neighbours_agree_with_brute_force():
    random = np.random.default_rng(0)
    train, val = (random.normal(size=(n, 5)).astype(np.float32) for n in (30, 8))
    train_labels, val_labels = random.integers(-1, 3, 30), random.integers(-1, 3, 8)
    bank, queries = split(train, train_labels), split(val, val_labels)
    cosine, found = nearest(bank, queries, np.array([2, 0]), 4)
    for q, position in enumerate((2, 0)):
        query = val[queries.rows[position]]
        every = train @ query / np.linalg.norm(train, axis=1) / np.linalg.norm(query)
        every[train_labels < 0] = -2  # no labelled image, no neighbour
        expected = np.argsort(-every)[:4]
        assert bank.rows[found[q]].tolist() == expected.tolist()
        np.testing.assert_allclose(cosine[q], every[expected], rtol=1e-5)
    with pytest.raises(UsageError, match=r"--k 31: train has \d+ labelled images"):
        nearest(bank, queries, np.array([0]), 31)


def test_confusions_agree_with_a_loop(drawn):
    labels, predicted = drawn
    counts = confusion(labels, predicted, 3)
    expected = np.zeros((3, 3), int)
    for true, other in zip(labels, predicted, strict=True):
        expected[true, other] += 1
    assert np.array_equal(counts, expected)
    pairs = most_confused(counts, 10)
    assert len(pairs) == 6
    assert [p["count"] for p in pairs] == sorted((p["count"] for p in pairs), reverse=True)
    for pair in pairs:
        assert pair["true"] != pair["predicted"]
        assert pair["count"] == expected[pair["true"], pair["predicted"]]
        assert pair["share"] == pytest.approx(100 * pair["count"] / (labels == pair["true"]).sum())
    assert most_confused(np.diag([3, 4]), 5) == []


def test_queries_are_half_wrong_and_of_all_classes(drawn):
    labels, predicted = drawn
    right = labels == predicted
    chosen = choose_queries(labels, predicted, 12, None, 0)
    assert right[chosen].sum() == 6
    assert len(set(chosen.tolist())) == 12
    assert np.bincount(labels[chosen]).tolist() == [4, 4, 4]
    assert right[choose_queries(labels, predicted, 9, "right", 0)].all()
    assert not right[choose_queries(labels, predicted, 9, "wrong", 0)].any()
    assert np.array_equal(np.sort(choose_queries(labels, predicted, 99, "any", 0)), np.arange(60))
    assert np.array_equal(chosen, choose_queries(labels, predicted, 12, None, 0))
    assert not np.array_equal(chosen, choose_queries(labels, predicted, 12, None, 1))
    assert len(choose_queries(labels, labels, 4, None, 0)) == 4  # nothing is wrong, so all are right
    with pytest.raises(SslkitError, match="none of the 60 val images is wrong by k-NN; try --only any"):
        choose_queries(labels, labels, 4, "wrong", 0)


def test_few_queries_of_many_classes_are_of_different_classes():
    labels = np.arange(400) // 4
    predicted = np.where(np.arange(400) % 2, labels, (labels + 1) % 100)
    chosen = choose_queries(labels, predicted, 20, None, 3)
    assert len(set(labels[chosen].tolist())) == 20
