"""95 % confidence intervals: of a share over images, of a mean over independent runs."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev

LEVEL = 0.95


def wilson(percent: float, images: int) -> tuple[float, float]:
    """Interval of a share of independent images (Wilson, J. Am. Stat. Assoc. 22, 1927), in percent.

    Unlike the normal approximation, it stays within 0 and 100.

    Args:
        percent: the share. It is a count of images, so it is rounded to the nearest one.
        images: N >= 1.

    >>> [round(end, 2) for end in wilson(50.0, 100)], [round(end, 2) for end in wilson(0.0, 100)]
    ([40.38, 59.62], [0.0, 3.7])
    """
    from scipy.stats import binomtest  # slow to import

    ends = binomtest(round(percent * images / 100), images).proportion_ci(LEVEL, method="wilson")
    return 100 * float(ends.low), 100 * float(ends.high)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent values and the half width of its interval by Student's t; None for a single value."""
    if len(values) < 2:
        return mean(values), None
    return mean(values), t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))


def t_quantile(freedom: int) -> float:
    """The quantile of Student's t distribution that leaves 2.5 % above it."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))
