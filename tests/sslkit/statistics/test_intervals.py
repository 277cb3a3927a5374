"""Intervals against what defines them, and against printed tables."""

import math

import numpy as np
import pytest

from sslkit.statistics.intervals import interval, t_quantile, wilson


def test_the_interval_of_a_mean_is_students() -> None:
    # By hand: mean 2, standard deviation 1, 4.3027 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(2.4842, abs=1e-4))
    assert interval([5.0]) == (5.0, None)
    # From a printed table of the distribution.
    printed = ((1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (15, 2.131), (30, 2.042), (120, 1.980))
    for freedom, quantile in printed:
        assert t_quantile(freedom) == pytest.approx(quantile, abs=0.003)


def test_the_interval_of_a_share_is_wilsons() -> None:
    # By hand for 8 of 10: (0.8 + 3.8415/20 -+ 1.96 sqrt(0.016 + 3.8415/400)) / (1 + 3.8415/10).
    assert wilson(80.0, 10) == pytest.approx((49.016, 94.332), abs=0.01)
    # Its ends are where the true share is just 1.96 deviations away.
    for end in wilson(40.0, 10_000):
        deviation = 100 * math.sqrt(end / 100 * (1 - end / 100) / 10_000)
        assert abs(40 - end) == pytest.approx(1.959964 * deviation, rel=1e-6)


@pytest.mark.parametrize(("percent", "images"), [(0.0, 10), (27.5, 10_000), (62.5, 40), (100.0, 7)])
def test_wilsons_interval_is_where_the_test_of_a_share_turns(percent: float, images: int) -> None:
    seen = percent / 100
    grid = np.linspace(0, 1, 200_001)
    inside = grid[np.abs(seen - grid) <= 1.959964 * np.sqrt(grid * (1 - grid) / images) + 1e-12]
    assert wilson(percent, images) == pytest.approx((100 * inside[0], 100 * inside[-1]), abs=2e-3)
