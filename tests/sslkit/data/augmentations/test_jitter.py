"""Each operation of colour jitter against torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from sslkit.data.augmentations import jitter
from sslkit.data.augmentations.jitter import Jitter

NEUTRAL = (1, 1.0, 1.0, 1.0, 0.0, 0)  # on, brightness, contrast, saturation, hue, which order


def jittered(images: torch.Tensor, *draws: tuple[float, ...]) -> torch.Tensor:
    changed = images.clone()
    Jitter.apply(changed, np.array(draws, np.float32))
    return changed


@pytest.mark.parametrize(
    ("column", "theirs", "values"),
    [
        (1, tv.adjust_brightness, (0.6, 1.0, 1.4)),
        (2, tv.adjust_contrast, (0.6, 1.0, 1.4)),
        (3, tv.adjust_saturation, (0.0, 1.0, 1.4)),
        (4, tv.adjust_hue, (-0.5, 0.1, 0.37)),
    ],
)
def test_each_image_is_changed_by_its_own_factor_as_torchvision_does(column, theirs, values):
    images = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([theirs(image, value) for image, value in zip(images, values, strict=True)])
    draws = [(*NEUTRAL[:column], value, *NEUTRAL[column + 1 :]) for value in values]
    torch.testing.assert_close(
        jittered(images, *draws), expected, rtol=0, atol=2e-4
    )  # torchvision rounds luma's weights


@pytest.mark.parametrize(("count", "side"), [(48, 8), (6, 64), (2, 212)])  # many fit into a cache, some, only one
def test_images_in_orders_of_their_own_are_within_a_quarter_of_a_level_of_torchvisions(count, side):
    theirs = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.random((count, 3, side, side), np.float32))
    values = np.concatenate([random.uniform(0.6, 1.4, (count, 3)), random.uniform(-0.5, 0.5, (count, 1))], 1)
    draws = [(float(random.random() < 0.9), *row, float(random.integers(24))) for row in values.tolist()]
    expected = images.clone()
    for image, (on, *factors, order) in zip(expected, draws, strict=True):
        for operation in jitter.ORDERS[int(order)] if on else ():
            image.copy_(theirs[operation](image, factors[operation]))
    torch.testing.assert_close(jittered(images, *draws), expected, rtol=0, atol=0.25 / 255)


def test_hue_leaves_gray_and_extreme_pixels_alone():
    x = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 2, 2).contiguous()
    torch.testing.assert_close(jittered(x, *[(1, 1.0, 1.0, 1.0, 0.3, 0)] * 3), x)


def test_the_order_matters_and_all_24_occur():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    outs = [jittered(image, (1, 1.4, 0.6, 0.7, 0.1, order)) for order in range(24)]
    assert len({out.numpy().tobytes() for out in outs}) > 12
    assert len({tuple(order) for order in jitter.ORDERS}) == 24
    assert np.array_equal(np.sort(jitter.ORDERS, 1), np.tile(np.arange(4), (24, 1)))


def test_images_that_are_not_drawn_keep_every_bit():
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    off = (0, 1.4, 0.6, 0.7, 0.1, 7)
    out = jittered(images, off, (1, *off[1:]), off)
    assert torch.equal(out[[0, 2]], images[[0, 2]])
    assert not torch.equal(out[1], images[1])
