"""Paired tests of a difference in accuracy, over the test images and over the seeds of a recipe.

An interval over test images is about these two trained encoders on other images of the same kind. An interval over
seeds is about other runs on the same images; only this one is about the recipe. Accuracies are in percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

from sslkit import rng
from sslkit.errors import SslkitError
from sslkit.statistics.intervals import LEVEL

RESAMPLES = 10_000
POWER = 0.8
MANY_PAIRS = 1000  # from here on Student's t and the normal distribution give the same number, to within 0.3 %
ROUNDING = 1e-9  # relative to a difference: a spread below it is rounding error


@dataclass(frozen=True)
class OverImages:
    """The difference between two classifiers on the same images: bootstrap interval, p of McNemar's exact test."""

    difference: float  # accuracy of a minus that of b, percentage points
    low: float
    high: float
    p: float
    a_only: int  # images that only a classifies correctly
    b_only: int
    images: int


@dataclass(frozen=True)
class OverSeeds:
    """The mean difference over pairs of runs with equal seeds: Student's interval, p of the two-sided paired t test."""

    difference: float  # mean of a minus b, percentage points
    low: float
    high: float
    p: float
    pairs: int
    needed: int | None  # see ``pairs_needed``


def over_images(
    correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> OverImages:
    """Paired bootstrap of the difference (percentile interval; Efron, Ann. Statist. 7, 1979), and McNemar's test.

    An image contributes +1, -1 or 0 to the difference. A resample of N images is therefore one multinomial draw of
    how many contribute what: exactly the same distribution, without drawing any image.

    Args:
        correct_a: (N,) bool, whether a classifies the image correctly.
        correct_b: (N,) bool, the same images in the same order.
        seed: of the resamples.
        resamples: how many.
        level: of the interval, in (0, 1).

    Raises:
        SslkitError: different numbers of images, or none.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise SslkitError(f"a paired comparison needs the same images, found {a.shape} and {b.shape}")
    a_only, b_only, images = int((a & ~b).sum()), int((b & ~a).sum()), len(a)
    # The better one's images come first in the draw, so that swapping a and b only changes the sign.
    more, fewer, sign = max(a_only, b_only), min(a_only, b_only), 1 if a_only >= b_only else -1
    shares = np.array([more, fewer, images - more - fewer]) / images
    counts = rng.generator(seed, "statistics.bootstrap").multinomial(images, shares, size=resamples)
    differences = 100 * sign * (counts[:, 0] - counts[:, 1]) / images
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    difference, p = 100 * (a_only - b_only) / images, mcnemar(a_only, b_only)
    return OverImages(difference, float(low), float(high), p, a_only, b_only, images)


def mcnemar(a_only: int, b_only: int) -> float:
    """Two-sided p of McNemar's exact test (Psychometrika 12, 1947); 1 if two classifiers never disagree.

    Args:
        a_only: images that only one of them gets right.
        b_only: images that only the other gets right.
    """
    from scipy.stats import binomtest  # slow to import

    return float(binomtest(a_only, a_only + b_only).pvalue) if a_only + b_only else 1.0


def over_seeds(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> OverSeeds:
    """Paired differences over seeds with Student's interval.

    Args:
        a: accuracies of n >= 2 runs, percent.
        b: those of the other recipe, for the same seeds in the same order.
        level: of the interval, in (0, 1).

    Raises:
        SslkitError: different numbers of runs, or fewer than two.
    """
    if len(a) != len(b) or len(a) < 2:
        raise SslkitError(f"a paired comparison over seeds needs two pairs or more, found {len(a)} and {len(b)} runs")
    from scipy.stats import ttest_1samp

    differences = [x - y for x, y in zip(a, b, strict=True)]
    difference, deviation = mean(differences), stdev(differences)
    if deviation <= ROUNDING * abs(difference):
        # No spread: the p of a difference is 0, that of no difference is 1.
        low, high, p, deviation = difference, difference, float(difference == 0), 0.0
    else:
        test = ttest_1samp(differences, 0.0)
        (low, high), p = test.confidence_interval(level), test.pvalue  # pyright: ignore[reportAttributeAccessIssue]
    needed = pairs_needed(difference, deviation)
    return OverSeeds(difference, float(low), float(high), float(p), len(differences), needed)


def pairs_needed(difference: float, deviation: float, power: float = POWER, level: float = LEVEL) -> int | None:
    """The number of pairs of runs with which a paired two-sided t test finds this difference at this spread.

    The power is that of the noncentral t distribution (Cohen, Statistical Power Analysis, 1988) without its far tail,
    the chance of a finding with the wrong sign. From 1000 pairs on, the normal distribution replaces it.

    Args:
        difference: of the means, taken as the true one.
        deviation: standard deviation of the paired differences, taken as the true one.
        power: the chance of finding the difference, in (0, 1).
        level: 1 minus the size of the test.

    Returns:
        At least 2; None for a difference of 0, which no number of pairs finds.
    """
    if difference == 0:
        return None
    from scipy.stats import nct, norm, t

    effect = abs(difference) / deviation if deviation else math.inf
    # The normal distribution never needs more pairs than Student's t: search upwards from there.
    normal = (float(norm.ppf((1 + level) / 2) + norm.ppf(power)) / effect) ** 2
    pairs = max(2, math.ceil(normal))
    while deviation and pairs < MANY_PAIRS:
        critical = t.ppf((1 + level) / 2, pairs - 1)
        if nct.sf(critical, pairs - 1, effect * math.sqrt(pairs)) >= power:
            break
        pairs += 1
    return pairs
