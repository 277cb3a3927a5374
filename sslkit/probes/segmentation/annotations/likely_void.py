"""Values that look like void: thin borders between other classes, such as the outlines that annotators leave open.

Only a guess, for a remark: what is void is said by who made the masks.
"""

from collections.abc import Iterable, Set

import numpy as np

THIN = 0.05  # at most this share of a border's pixels has the border on all four sides around it
BETWEEN = 0.6  # at least this share lies between two other classes; a pole in front of the sky does not
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
    """(3,) pixels of a value, those of them within it, and those between two other values or more."""
    reach = max(1, round(0.015 * min(mask.shape)))
    rows, columns = np.nonzero(mask == value)

    def around(distance: int) -> np.ndarray:
        """(8, n) values at a distance in eight directions, at the picture's edge those of the edge."""
        steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
        places = [(rows + distance * y, columns + distance * x) for y, x in steps]
        return np.stack([mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)] for y, x in places])

    within = (around(reach)[[1, 3, 4, 6]] == value).all(0).sum()  # above, left, right and below
    far = around(2 * reach + 1)
    # Two others where what is not this value is not all the same.
    low, high = np.where(far == value, far.max(initial=0) + 1, far).min(0), np.where(far == value, -2, far).max(0)
    return np.array([len(rows), within, (high > low).sum()])
