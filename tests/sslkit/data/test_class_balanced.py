"""Which images keep their labels when there are few."""

import numpy as np
import pytest

from sslkit import rng
from sslkit.data.class_balanced import by_class, share, shots
from sslkit.errors import SslkitError, UsageError

LABELS = np.array([0, 1, 2, -1] * 50 + [0] * 150)  # 200, 50 and 50 labelled images


def test_every_class_keeps_the_same_share_and_at_least_one_image():
    assert np.bincount(LABELS[share(LABELS, 0.1, 0)]).tolist() == [20, 5, 5]
    assert np.bincount(LABELS[share(LABELS, 0.001, 0)]).tolist() == [1, 1, 1]
    assert share(LABELS, 1.0, 0).tolist() == np.flatnonzero(LABELS >= 0).tolist()


def test_shares_are_nested_and_follow_the_seed():
    small, large, other = share(LABELS, 0.1, 0), share(LABELS, 0.3, 0), share(LABELS, 0.1, 1)
    assert set(small) < set(large) and set(small) != set(other)


def test_shots_take_as_many_of_every_class_and_draws_differ():
    first, second = shots(LABELS, 5, 0, 0), shots(LABELS, 5, 0, 1)
    assert np.bincount(LABELS[first]).tolist() == np.bincount(LABELS[second]).tolist() == [5, 5, 5]
    assert first.tolist() != second.tolist() and first.tolist() == shots(LABELS, 5, 0, 0).tolist()


def test_classes_are_found_as_by_looking_for_each_of_them(monkeypatch):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3, 7], [5, 1, 30, 12]))
    naive = [(c, [i for i, label in enumerate(labels) if label == c]) for c in (0, 1, 3, 7)]
    assert [(label, positions.tolist()) for label, positions in by_class(labels)] == naive
    assert list(by_class(np.empty(0, np.int64))) == [] and share(np.full(4, -1), 0.5, 0).tolist() == []
    # The orders are keyed by class and drawn from ascending positions, as the results of earlier versions were.
    expected = [
        rng.generator(3, "labels.share", c, 0).permutation(np.flatnonzero(c == LABELS))[: round(0.1 * n)]
        for c, n in ((0, 200), (1, 50), (2, 50))
    ]
    assert share(LABELS, 0.1, 3).tolist() == sorted(np.concatenate(expected).tolist())
    # One sort for all classes, not one pass for each.
    sorts = []
    honest = np.argsort
    monkeypatch.setattr(np, "argsort", lambda *words, **options: sorts.append(1) or honest(*words, **options))
    monkeypatch.setattr(np, "flatnonzero", lambda a, honest=np.flatnonzero: sorts.append(2) or honest(a))
    share(np.arange(4000) % 1000, 0.5, 0)
    assert sorts.count(1) == 1 and sorts.count(2) == 1


def test_what_cannot_be_had_is_said():
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        share(LABELS, 0, 0)
    with pytest.raises(SslkitError, match="has only 50"):
        shots(LABELS, 51, 0, 0)
