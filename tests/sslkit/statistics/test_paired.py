"""Paired tests against naive loops, sums of binomial probabilities and textbook values."""

import math
import time

import numpy as np
import pytest

from sslkit.errors import SslkitError
from sslkit.statistics.paired import mcnemar, over_images, over_seeds, pairs_needed


def answers(a_only: int, b_only: int, both: int, neither: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of two classifiers is right, image by image, with these counts; shuffled."""
    a = np.repeat([True, False, True, False], [a_only, b_only, both, neither])
    b = np.repeat([False, True, True, False], [a_only, b_only, both, neither])
    order = np.random.default_rng(seed).permutation(len(a))
    return a[order], b[order]


def test_the_bootstrap_equals_one_that_resamples_images() -> None:
    a, b = answers(30, 15, 120, 35)
    random = np.random.default_rng(1)
    naive = []
    for _ in range(4000):
        rows = random.integers(0, len(a), len(a))
        naive.append(100 * (a[rows].mean() - b[rows].mean()))
    found = over_images(a, b)
    assert found.difference == pytest.approx(100 * (a.mean() - b.mean())) == 7.5
    # The ends' own spread over 4000 resamples is near 0.15 points; an unpaired interval would be 18 wide, not 13.
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(naive, [0.025, 0.975])), abs=0.51)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(naive), rel=0.06)
    assert (found.a_only, found.b_only, found.images) == (30, 15, 200)


def test_ten_thousand_images_and_resamples_are_quick_and_reproducible() -> None:
    a, b = answers(900, 800, 5000, 3300)
    over_images(a, b)  # the first call imports scipy
    began = time.process_time()  # of this process alone: the machine may be busy
    found = over_images(a, b)
    assert time.process_time() - began < 2
    assert found == over_images(a, b)
    far = [over_images(a, b, level=0.9995, seed=seed) for seed in (0, 1)]  # ends that rest on a few resamples
    assert far[0] != far[1]
    # The normal approximation: sqrt(900 + 800 - 100^2 / 10000) / 10000.
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(1699) / 100, rel=0.05)
    assert over_images(a, b, level=0.5).high < found.high


def test_swapping_the_two_flips_the_sign_and_equal_predictions_do_not_differ() -> None:
    a, b = answers(30, 15, 120, 35)
    one, other = over_images(a, b), over_images(b, a)
    assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))
    assert one.p == other.p
    same = over_images(a, a)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    for wrong in (b[:-1], b[None]):
        with pytest.raises(SslkitError, match="the same images"):
            over_images(a, wrong)


@pytest.mark.parametrize(("a_only", "b_only"), [(0, 0), (1, 0), (5, 0), (7, 3), (3, 7), (10, 10), (60, 90), (400, 470)])
def test_mcnemar_is_a_sum_of_binomial_probabilities(a_only: int, b_only: int) -> None:
    total, fewer = a_only + b_only, min(a_only, b_only)
    tail = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    assert mcnemar(a_only, b_only) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


def test_the_interval_over_seeds_is_students() -> None:
    # By hand: differences 1, 2, 3; mean 2, deviation 1, 4.30265 / sqrt(3); t = 2 sqrt(3) at 2 degrees of freedom,
    # where the distribution is 1/2 + t / (2 sqrt(2 + t^2)).
    found = over_seeds([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    t = 2 * math.sqrt(3)
    assert (found.difference, found.pairs) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-6)
    other = over_seeds([10.0, 20.0, 30.0], [11.0, 22.0, 33.0])
    assert (other.low, other.high, other.p) == pytest.approx((-found.high, -found.low, found.p))
    # Pairing removes what the seeds share: the spread of 11, 22, 33 itself does not matter.
    assert found.high - found.low < 5
    with pytest.raises(SslkitError, match="two pairs"):
        over_seeds([1.0], [2.0])


def test_a_difference_without_spread_is_certain() -> None:
    same = over_seeds([50.0, 51.0], [50.0, 51.0])
    assert (same.difference, same.low, same.high, same.p, same.needed) == (0, 0, 0, 1, None)
    apart = over_seeds([51.0, 52.0], [50.0, 51.0])
    assert (apart.low, apart.high, apart.p, apart.needed) == (1, 1, 0, 2)


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (2.0, 5)])
def test_pairs_needed_match_printed_tables_of_power(effect: float, pairs: int) -> None:
    # Sample sizes of the paired t test at 80 % power and 5 %, two-sided, as printed for these effect sizes.
    assert pairs_needed(effect, 1.0) == pairs_needed(-3 * effect, 3.0) == pairs


def test_pairs_needed_reach_the_power_and_have_no_upper_bound() -> None:
    n = pairs_needed(1.5, 1.0)
    assert n is not None
    random = np.random.default_rng(0)
    critical = {n: 2.5706, n - 1: 2.7764}  # Student's quantiles 0.975 for 5 and 4 degrees of freedom

    def power(count: int) -> float:
        draws = random.normal(1.5, 1.0, (40_000, count))
        return float((draws.mean(1) / draws.std(1, ddof=1) * math.sqrt(count) > critical[count]).mean())

    assert n == 6
    assert power(n) >= 0.8 > power(n - 1)
    assert pairs_needed(0.001, 1.0) == pytest.approx((1.959964 + 0.841621) ** 2 * 1e6, rel=1e-3)


def test_equal_disagreements_have_a_p_of_one() -> None:
    assert [mcnemar(n, n) for n in (0, 1, 7, 500)] == [1.0] * 4


def test_a_spread_of_rounding_errors_is_no_spread() -> None:
    found = over_seeds([50.1, 60.1, 70.1], [50.0, 60.0, 70.0])
    assert (found.p, found.needed) == (0, 2)
    assert found.low == found.high == pytest.approx(0.1)
