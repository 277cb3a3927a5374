"""Values that look like void: thin borders between other classes, such as the outlines that annotators leave open.

Only a guess, for a remark: what is void is said by who made the masks.
"""

from collections.abc import Iterable, Set

import numpy as np

THIN = 0.05  # at most this share of a border's pixels has the border on all four sides around it
BETWEEN = 0.6  # at least this share has different classes on two opposite sides; a pole in front of a house has not
LEAST, MOST = 0.001, 0.2  # share of all pixels
ENOUGH = 6_000_000  # pixels that are looked at


def likely_void(masks: Iterable[np.ndarray], known: Set[int]) -> dict[int, float]:
    """The values that are thin borders, and their share of the pixels.

    Args:
        masks: values, int64 (H, W) each; as many as ``ENOUGH`` allows are looked at.
        known: values that are not in question: void, background, unknown.
    """
    pixels, looked = 0, dict[int, np.ndarray]()
    for mask in masks:
        pixels += mask.size
        for value in set(np.unique(mask).tolist()) - known:
            looked[value] = looked.get(value, np.zeros(3)) + _border_counts(mask, value)
        if pixels > ENOUGH:
            break
    return {
        value: float(total / pixels)
        for value, (total, inside, between) in sorted(looked.items())
        if LEAST <= total / pixels <= MOST and inside <= THIN * total and between >= BETWEEN * total
    }


def _border_counts(mask: np.ndarray, value: int) -> np.ndarray:
    """(3,) pixels of a value, those of them within it, and those between two different values."""
    reach = max(1, round(0.015 * min(mask.shape)))
    rows, columns = np.nonzero(mask == value)

    def at(y: int, x: int) -> np.ndarray:
        """(n,) values so many rows and columns away, at the picture's edge those of the edge."""
        return mask[(rows + y).clip(0, mask.shape[0] - 1), (columns + x).clip(0, mask.shape[1] - 1)]

    within = np.all([at(*step) == value for step in ((-reach, 0), (0, -reach), (0, reach), (reach, 0))], axis=0)
    between, far = np.zeros(len(rows), bool), reach + 1
    for y, x in ((far, 0), (0, far), (far, far), (far, -far)):
        one, other = at(y, x), at(-y, -x)
        between |= (one != value) & (other != value) & (one != other)
    return np.array([len(rows), within.sum(), between.sum()])
