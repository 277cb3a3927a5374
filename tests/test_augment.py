"""Each photometric operation against torchvision's, and the batch against one image at a time."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from sslkit.data import augment
from sslkit.data.views import PHOTOMETRIC
from sslkit.encoder import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture
def images():
    return torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def factors(*values):
    return torch.tensor(values)[:, None, None, None]


@pytest.mark.parametrize(
    ("mine", "theirs", "values"),
    [
        (augment.brightness_, tv.adjust_brightness, (0.6, 1.0, 1.4)),
        (augment.contrast_, tv.adjust_contrast, (0.6, 1.0, 1.4)),
        (augment.saturation_, tv.adjust_saturation, (0.0, 1.0, 1.4)),
        (augment.hue_, tv.adjust_hue, (-0.5, 0.1, 0.37)),
    ],
)
def test_each_image_is_changed_by_its_own_factor_as_torchvision_does(images, mine, theirs, values):
    expected = torch.stack([theirs(image, value) for image, value in zip(images, values, strict=True)])
    mine(images, factors(*values))
    torch.testing.assert_close(images, expected, rtol=0, atol=2e-4)  # torchvision rounds the weights of luma


def test_hue_leaves_gray_and_extreme_pixels_alone():
    x = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 2, 2).contiguous()
    expected = x.clone()
    augment.hue_(x, factors(0.3, 0.3, 0.3))
    torch.testing.assert_close(x, expected)


def test_grayscale_solarize_and_blur_as_torchvision(images):
    expected = tv.rgb_to_grayscale(images, 3)
    gray = images.clone()
    augment.grayscale_(gray)
    torch.testing.assert_close(gray, expected, rtol=0, atol=1e-3)  # torchvision rounds its weights differently
    light = images.clone()
    augment.solarize_(light)
    torch.testing.assert_close(light, tv.solarize(images, 128 / 255))
    sigmas = (0.1, 1.0, 2.0)
    sides = [2 * math.ceil(3 * s) + 1 for s in sigmas]
    expected = torch.stack([tv.gaussian_blur(i, [k, k], [s, s]) for i, k, s in zip(images, sides, sigmas, strict=True)])
    augment.blur_(images, factors(*sigmas))
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def rows(**columns) -> torch.Tensor:
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    return torch.tensor([columns.get(name, neutral.get(name, 0.0)) for name in PHOTOMETRIC])


def test_nothing_drawn_is_normalisation_alone():
    crops = torch.randint(0, 256, (2, 2, 3, 8, 8), dtype=torch.uint8)
    out = augment.photometric(crops, rows().expand(2, 2, -1))
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(out, (crops / 255 - mean) / std, rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_neighbours():
    generator = torch.Generator().manual_seed(1)
    crops = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8, generator=generator)
    draw = torch.stack(
        [
            torch.stack(
                [rows(jitter=1, brightness=0.7, hue=0.2, order=o, blur=s, gray=g, solarize=g) for g in (0, 1, 0, 1)]
            )
            for o, s in ((3.0, 0.0), (17.0, 1.3))
        ]
    )
    whole = augment.photometric(crops, draw)
    for view in range(2):
        for sample in range(4):
            alone = augment.photometric(crops[view, sample][None, None], draw[view, sample][None, None])
            torch.testing.assert_close(whole[view, sample], alone[0, 0], rtol=0, atol=1e-6)


def test_autocast_does_not_touch_pixels():
    crops = torch.randint(0, 256, (1, 2, 3, 16, 16), dtype=torch.uint8)
    draw = rows(blur=1.5, jitter=1, contrast=1.2).expand(1, 2, -1)
    expected = augment.photometric(crops, draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.photometric(crops, draw), expected)


def test_the_order_of_the_jitter_matters_and_all_24_occur():
    crops = torch.randint(0, 256, (1, 1, 3, 8, 8), dtype=torch.uint8)
    settings = {"jitter": 1, "brightness": 1.4, "contrast": 0.6, "saturation": 0.7, "hue": 0.1}
    outs = [augment.photometric(crops, rows(order=float(o), **settings)[None, None]) for o in range(24)]
    assert len({o.numpy().tobytes() for o in outs}) > 12
    assert len({tuple(o) for o in augment.ORDERS}) == 24
    assert np.array_equal(np.sort(augment.ORDERS, 1), np.tile(np.arange(4), (24, 1)))
