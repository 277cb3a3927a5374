"""Which images keep their labels when there are few."""

import numpy as np
import pytest

from sslkit.errors import SslkitError, UsageError
from sslkit.probes.labels import share, shots

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


def test_what_cannot_be_had_is_said():
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        share(LABELS, 0, 0)
    with pytest.raises(SslkitError, match="has only 50"):
        shots(LABELS, 51, 0, 0)
