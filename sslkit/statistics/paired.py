"""Is a difference of accuracy more than chance? Over the test images, and over the seeds of a training.

The two answer different questions. An interval over test images takes the two trained encoders as they are, and says
what other images of the same kind would show. An interval over seeds says what other trainings would show on the
same images; only it speaks of the recipe. Accuracies are in percent, differences in percentage points.

SciPy is imported by the functions that need it: it comes with scikit-learn, and is slow to load.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev

import numpy as np

from sslkit import rng
from sslkit.errors import SslkitError

LEVEL = 0.95
RESAMPLES = 10_000
POWER = 0.8
MANY_PAIRS = 1000  # from here on Student's t and the normal distribution ask for the same number, to 0.3 %


@dataclass(frozen=True)
class OverImages:
    """The difference of two classifiers over the same test images.

    Attributes:
        difference: accuracy of a less that of b, percentage points.
        low: lower end of the bootstrap's interval.
        high: upper end.
        p: of McNemar's exact test.
        a_only: images that only a classifies rightly.
        b_only: images that only b does.
        images: N.
    """

    difference: float
    low: float
    high: float
    p: float
    a_only: int
    b_only: int
    images: int


@dataclass(frozen=True)
class OverSeeds:
    """The mean difference of pairs of trainings that share a seed.

    Attributes:
        difference: mean of a less b, percentage points.
        low: lower end of Student's interval.
        high: upper end.
        p: of the paired t test, two-sided.
        pairs: n.
        needed: pairs that would tell this difference at this spread (``pairs_needed``); None: no number would.
    """

    difference: float
    low: float
    high: float
    p: float
    pairs: int
    needed: int | None


def over_images(
    correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> OverImages:
    """Paired bootstrap of the difference (percentile interval; Efron, Ann. Statist. 7, 1979), and McNemar's test.

    An image adds +1, -1 or 0 to the difference. So a resample of N images is a multinomial draw of how many add
    what, and no image needs to be drawn: the distribution is the same, exactly.

    Args:
        correct_a: (N,) bool, whether a classifies the image rightly.
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
    # The better one's images come first in the draw, so that exchanging a and b exchanges the sign and nothing else.
    more, fewer, sign = max(a_only, b_only), min(a_only, b_only), 1 if a_only >= b_only else -1
    shares = np.array([more, fewer, images - more - fewer]) / images
    counts = rng.generator(seed, "statistics.bootstrap").multinomial(images, shares, size=resamples)
    differences = 100 * sign * (counts[:, 0] - counts[:, 1]) / images
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return OverImages(
        difference=100 * (a_only - b_only) / images,
        low=float(low),
        high=float(high),
        p=mcnemar(a_only, b_only),
        a_only=a_only,
        b_only=b_only,
        images=images,
    )


def mcnemar(a_only: int, b_only: int) -> float:
    """McNemar's test (Psychometrika 12, 1947) in its exact form: are the disagreements a fair coin's?

    Args:
        a_only: images that only one of two classifiers has right.
        b_only: images that only the other has right.

    Returns:
        The two-sided binomial p; 1 where they never disagree.
    """
    from scipy.special import bdtr

    if a_only == b_only:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(a_only, b_only), a_only + b_only, 0.5)))


ROUNDING = 1e-9  # of a difference: less spread than that is none


def over_seeds(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> OverSeeds:
    """Paired differences over seeds with Student's interval.

    Args:
        a: accuracies of n >= 2 trainings, percent.
        b: those of the other recipe, of the same seeds in the same order.
        level: of the interval, in (0, 1).

    Raises:
        SslkitError: different numbers of trainings, or fewer than two.
    """
    if len(a) != len(b) or len(a) < 2:
        raise SslkitError(f"a paired comparison over seeds needs two pairs or more, found {len(a)} and {len(b)} runs")
    from scipy.special import stdtr, stdtrit

    differences = [x - y for x, y in zip(a, b, strict=True)]
    difference, deviation, freedom = mean(differences), stdev(differences), len(differences) - 1
    if deviation <= ROUNDING * abs(difference):
        deviation = 0.0  # what is left is the arithmetic's
    error = deviation / math.sqrt(len(differences))
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    # With no spread at all a difference is certain, and none is no difference.
    p = 2 * float(stdtr(freedom, -abs(difference) / error)) if error else float(difference == 0)
    return OverSeeds(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=p,
        pairs=len(differences),
        needed=pairs_needed(difference, deviation),
    )


def pairs_needed(difference: float, deviation: float, power: float = POWER, level: float = LEVEL) -> int | None:
    """How many pairs of trainings a paired t test, two-sided, would need to find this difference at this spread.

    The power is the noncentral t distribution's (Cohen, Statistical Power Analysis, 1988); its far tail, the chance
    of a finding with the wrong sign, is left out. From 1000 pairs on the normal distribution stands for it.

    Args:
        difference: of the means, taken as the true one.
        deviation: standard deviation of the paired differences, taken as the true one.
        power: the wanted chance of a finding, in (0, 1).
        level: 1 less the test's size.

    Returns:
        At least 2; None for a difference of 0, which no number of pairs tells.
    """
    if difference == 0:
        return None
    from scipy.special import nctdtr, stdtrit

    effect = abs(difference) / deviation if deviation else math.inf
    # The normal distribution's answer is never more than Student's: the search goes up from there.
    normal = ((NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)) / effect) ** 2
    pairs = max(2, math.ceil(normal))
    while deviation and pairs < MANY_PAIRS:
        critical = stdtrit(pairs - 1, (1 + level) / 2)
        if 1 - nctdtr(pairs - 1, effect * math.sqrt(pairs), critical) >= power:
            break
        pairs += 1
    return pairs
