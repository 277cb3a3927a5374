"""Random resized crops: where their boxes lie, and how they are cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkit.data.resized_crop import NUMBERS, boxes_from, cut


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    seed=st.integers(0, 2**32),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
)
@settings(max_examples=200)
def test_boxes_lie_in_the_image(height, width, seed, low, high):
    u = np.random.default_rng(seed).random((4, NUMBERS))
    scale = np.tile(sorted((low, high)), (4, 1))
    top, left, h, w = boxes_from(u, height, width, scale, np.tile((3 / 4, 4 / 3), (4, 1))).T
    assert (top >= 0).all() and (left >= 0).all() and (h > 0).all() and (w > 0).all()
    assert (top + h <= height).all() and (left + w <= width).all()


def test_areas_and_aspects_are_those_asked_for():
    u = np.random.default_rng(0).random((4000, NUMBERS))
    _, _, h, w = boxes_from(u, 400, 400, np.tile((0.2, 0.5), (4000, 1)), np.tile((0.75, 4 / 3), (4000, 1))).T
    area, aspect = h * w / 400**2, w / h
    assert area.min() > 0.195 and area.max() < 0.505 and abs(area.mean() - 0.35) < 0.01
    assert aspect.min() > 0.74 and aspect.max() < 1.35 and abs(np.log(aspect).mean()) < 0.02


def test_an_image_too_long_for_any_box_is_cut_in_its_middle():
    u = np.full((1, NUMBERS), 0.999)
    box = boxes_from(u, 10, 1000, np.array([[1.0, 1.0]]), np.array([[3 / 4, 4 / 3]]))[0]
    assert box.tolist() == [0, (1000 - 13) // 2, 10, 13]


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 60), (61, 40), (100, 101), (101, 100), (1, 9)])
def test_a_crop_of_the_whole_area_is_the_square_in_the_middle(height, width):
    side = min(height, width)
    box = [(height - side) // 2, (width - side) // 2, side, side]
    for seed in range(20):
        u = np.random.default_rng(seed).random((2, NUMBERS))
        boxes = boxes_from(u, height, width, np.ones((2, 2)), np.ones((2, 2)))
        assert boxes.tolist() == [box, box]


def test_a_box_of_the_crops_size_is_only_cut_out():
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cut(image, (2, 3, 16, 16), 16), image[:, 2:18, 3:19])
