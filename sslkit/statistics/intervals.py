"""95 % intervals: of a share over images, of a mean over independent runs. No SciPy, so they load at once."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev

# Quantiles 0.975 of Student's t distribution for 1 to 10 degrees of freedom.
T_QUANTILES = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139)
NORMAL_QUANTILE = 1.959964


def wilson(percent: float, images: int) -> tuple[float, float]:
    """Interval of a share of independent images (Wilson, J. Am. Stat. Assoc. 22, 1927), in percent.

    Unlike the normal interval it ends at 0 and 100.

    Args:
        percent: the share.
        images: N >= 1.

    >>> [round(end, 2) for end in wilson(50.0, 100)], [round(end, 2) for end in wilson(0.0, 100)]
    ([40.38, 59.62], [0.0, 3.7])
    """
    share, z2 = percent / 100, NORMAL_QUANTILE**2
    middle = share + z2 / (2 * images)
    half = NORMAL_QUANTILE * sqrt(share * (1 - share) / images + z2 / (4 * images**2))
    low, high = ((middle + side * half) / (1 + z2 / images) for side in (-1, 1))
    return 100 * max(low, 0.0), 100 * min(high, 1.0)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent values and the half width of its interval by Student's t; None for a single value."""
    if len(values) < 2:
        return mean(values), None
    return mean(values), t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))


def t_quantile(freedom: int) -> float:
    """Quantile 0.975 of Student's t; beyond the table by its expansion around the normal's, right to 0.003."""
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    z = NORMAL_QUANTILE
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
