"""Grayscale, solarization, blur, Sobel gradients and cutout: each against torchvision or a naive loop."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from sslkit.data.augmentations.base import Photometric, luma
from sslkit.data.augmentations.blur import Blur
from sslkit.data.augmentations.cutout import Cutout
from sslkit.data.augmentations.gray import Gray
from sslkit.data.augmentations.sobel import Sobel
from sslkit.data.augmentations.solarize import Solarize


@pytest.fixture
def images():
    return torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def applied(kind: type[Photometric], images: torch.Tensor, *draws: tuple[float, ...]) -> torch.Tensor:
    changed = images.clone()
    kind.apply(changed, np.array(draws, np.float32))
    return changed


def test_grayscale_as_torchvision(images):
    expected = tv.rgb_to_grayscale(images, 3)
    gray = applied(Gray, images, (1,), (1,), (1,))
    torch.testing.assert_close(gray, expected, rtol=0, atol=1e-3)  # torchvision rounds its weights differently


def test_solarize_as_torchvision(images):
    torch.testing.assert_close(applied(Solarize, images, (1,), (1,), (1,)), tv.solarize(images, 128 / 255))


def test_blur_as_torchvision_each_image_by_its_own_sigma(images):
    sigmas = (0.1, 1.0, 2.0)
    sides = [2 * math.ceil(3 * s) + 1 for s in sigmas]
    expected = torch.stack([tv.gaussian_blur(i, [k, k], [s, s]) for i, k, s in zip(images, sides, sigmas, strict=True)])
    torch.testing.assert_close(applied(Blur, images, *[(s,) for s in sigmas]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [37, 50, 212])  # no block fits it, one does, an image is larger than the cache
def test_blur_of_any_side_as_torchvision(side):
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([images[0], images[1], tv.gaussian_blur(images[2], [11, 11], [1.5, 1.5])])
    torch.testing.assert_close(applied(Blur, images, (0,), (0,), (1.5,)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [Gray, Solarize, Blur, Sobel])
def test_images_that_are_not_drawn_keep_every_bit(kind, images):
    out = applied(kind, images, (0,), (1,), (0,))
    assert torch.equal(out[[0, 2]], images[[0, 2]])
    assert not torch.equal(out[1], images[1])
    assert torch.equal(applied(kind, images, (0,), (0,), (0,)), images)


def test_sobel_is_the_gradient_of_luma(images):
    gray = luma(images)[:, 0].double().numpy()
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    expected = np.empty(images.shape)
    for i, plane in enumerate(np.pad(gray, ((0, 0), (1, 1), (1, 1)), mode="reflect")):
        for y, x in np.ndindex(*gray.shape[1:]):
            window = plane[y : y + 3, x : x + 3]
            right, down = (window * kernel).sum(), (window * kernel.T).sum()
            expected[i, :, y, x] = 0.5 + right / 8, 0.5 + down / 8, math.hypot(right, down) / math.sqrt(20)
    out = applied(Sobel, images, (1,), (1,), (1,))
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=1e-6)


def test_sobel_reaches_both_bounds_and_exceeds_none():
    windows = torch.from_numpy((np.arange(512)[:, None] >> np.arange(9)) & 1).float().view(512, 1, 3, 3)
    out = applied(Sobel, windows.repeat(1, 3, 1, 1), *[(1,)] * 512)[:, :, 1, 1]  # all black and white windows
    torch.testing.assert_close(out.amin(0), torch.zeros(3))
    torch.testing.assert_close(out.amax(0), torch.ones(3))


def test_luma_has_the_weights_of_the_standard():
    weights = luma(torch.eye(3)[:, :, None, None])[:, 0, 0, 0]
    torch.testing.assert_close(weights, torch.tensor([0.299, 0.587, 0.114]))


def test_cutout_clears_its_square_and_nothing_else(images):
    squares = ((4, 2, 7), (0, 3, 3), (24, 0, 0))  # side, top, left; the second is none, the third is everything
    expected = images.clone()
    for image, (side, top, left) in zip(expected, squares, strict=True):
        image[:, top : top + side, left : left + side] = 0
    assert torch.equal(applied(Cutout, images, *squares), expected)
