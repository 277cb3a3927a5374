"""Scores from counts against scores from pixels, choices of a head, and intervals."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sslkit.probes.segmentation.confusion import confusion
from sslkit.probes.segmentation.scores import (
    bounds,
    cell_of,
    class_iou,
    count_cells,
    fixed_head,
    jaccard,
    lowest_entropy,
    miou,
    resamples,
)


def random_labels(seed: int, height: int = 11, width: int = 17, classes: int = 4) -> np.ndarray:
    """Blocks of classes with void between them; one class is absent for some seeds."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.integers(-1, classes, (height, width // 2 + 1)), 2, 1)[:, :width].astype(np.int64)


@given(st.integers(1, 40), st.integers(1, 12))
def test_upsampling_takes_the_patch_below_the_pixels_centre(size, cells):
    expected = [
        min(range(cells), key=lambda c: (not c * size <= (p + 0.5) * cells < (c + 1) * size, c)) for p in range(size)
    ]
    assert cell_of(size, cells).tolist() == expected
    if size % cells == 0:
        whole = F.interpolate(torch.arange(cells)[None, None].float(), size, mode="nearest")[0, 0]
        assert cell_of(size, cells).tolist() == whole.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_jaccard_from_counts_is_jaccard_from_pixels(seed):
    labels, grid = random_labels(seed), (3, 4)
    kept = np.random.default_rng(seed).random((5, 12)) < 0.4
    kept[0], kept[1] = False, True  # an empty prediction and a full one
    objects = [c for c in (1, 2, 3) if (labels == c).any()]
    found = jaccard(kept, count_cells(labels, 4, grid), objects)
    for (g, wanted), m in itertools.product(enumerate(objects), range(5)):
        common = union = 0
        for y, x in np.ndindex(*labels.shape):
            if labels[y, x] < 0:
                continue
            inside = bool(kept[m].reshape(grid)[int((y + 0.5) * 3 / 11), int((x + 0.5) * 4 / 17)])
            common += inside and labels[y, x] == wanted
            union += inside or labels[y, x] == wanted
        assert found[g, m] == common / union
    assert (found[:, 0] == 0).all()


def test_miou_counts_pixel_by_pixel_and_leaves_out_void_and_absent_classes():
    truth, predicted = random_labels(0, classes=5), random_labels(1, classes=5).clip(min=0)
    truth[truth == 3] = -1  # never true, yet predicted: it counts as a miss
    truth[truth == 4], predicted[predicted == 4] = 0, 2  # neither: it counts nowhere
    table, per_class = confusion(truth, predicted, 5), []
    for wanted in range(5):
        hits = sum(t == p == wanted for t, p in zip(truth.flat, predicted.flat, strict=True))
        union = sum(t >= 0 and wanted in (t, p) for t, p in zip(truth.flat, predicted.flat, strict=True))
        per_class.append(hits / union if union else None)
    assert per_class[3] == 0
    assert per_class[4] is None
    assert np.array_equal(class_iou(table), [np.nan if v is None else v for v in per_class], equal_nan=True)
    assert miou(table) == pytest.approx(sum(v for v in per_class if v is not None) / 4)
    assert miou(np.stack([table, 2 * table])) == pytest.approx([miou(table)] * 2)


def test_a_fixed_head_is_chosen_by_the_other_half():
    scores = np.random.default_rng(0).random((9, 3))
    scores[:, 1] += 1
    assert np.array_equal(fixed_head(scores, 0), scores[:, 1])
    # A head that is best on one photo alone is not chosen for that photo.
    lucky = np.full((8, 2), 0.4)
    lucky[3, 0], lucky[:, 1] = 1.0, 0.41
    assert fixed_head(lucky, 0)[3] == 0.41
    assert fixed_head(scores[:1], 0) == pytest.approx(scores[0].mean())
    assert lowest_entropy(np.array([[1.0, 1, 1], [5, 1, 0], [2, 2, 0]])) == 1


def test_intervals_hold_the_mean_and_shrink_with_photos():
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    draws = resamples(400, 0)
    assert draws.shape == (1000, 400)
    assert (draws.sum(1) == 400).all()
    low, high = bounds(draws @ values / 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)
