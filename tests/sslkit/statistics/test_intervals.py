"""Intervals against their definitions, their formulas and printed tables."""

import math

import numpy as np
import pytest

from sslkit.statistics.intervals import interval, t_quantile, wilson

NORMAL_QUANTILE = 1.959963984540054  # 0.975 of the normal distribution


def test_the_interval_of_a_mean_is_students() -> None:
    # By hand: mean 2, standard deviation 1, 4.30265 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(2.484138, abs=1e-5))
    assert interval([5.0]) == (5.0, None)


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (15, 2.131), (30, 2.042), (120, 1.980)],
)
def test_t_quantiles_are_those_of_a_printed_table(freedom: int, printed: float) -> None:
    assert t_quantile(freedom) == pytest.approx(printed, abs=0.0005)


@pytest.mark.parametrize(("right", "images"), [(0, 1), (1, 1), (8, 10), (275, 1000), (4000, 10_000), (7, 7)])
def test_wilsons_interval_is_his_formula(right: int, images: int) -> None:
    share, z = right / images, NORMAL_QUANTILE
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z * math.sqrt(share * (1 - share) / images + z**2 / (4 * images**2)) / (1 + z**2 / images)
    wanted = (100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0))
    assert wilson(100 * right / images, images) == pytest.approx(wanted, abs=1e-9)
    assert wilson(round(100 * right / images, 2), images) == pytest.approx(wanted, abs=1e-9)  # some stages round


@pytest.mark.parametrize(("percent", "images"), [(0.0, 10), (27.5, 10_000), (62.5, 40), (100.0, 7)])
def test_wilsons_interval_holds_the_shares_that_a_test_does_not_reject(percent: float, images: int) -> None:
    seen = percent / 100
    grid = np.linspace(0, 1, 200_001)
    inside = grid[np.abs(seen - grid) <= NORMAL_QUANTILE * np.sqrt(grid * (1 - grid) / images) + 1e-12]
    assert wilson(percent, images) == pytest.approx((100 * inside[0], 100 * inside[-1]), abs=2e-3)
