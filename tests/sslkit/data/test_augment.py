"""Each photometric operation against torchvision's, and the batch against one image at a time."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from sslkit.data import augment
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.views import PHOTOMETRIC


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
    augment.blur_(images, factors(*sigmas), max(sigmas))
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


def hashed(value: int) -> int:
    """PCG's hash in Python's own integers (Jarzynski and Olano, JCGT 9(3), 2020)."""
    state = (value * 747796405 + 2891336453) % 2**32
    word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737 % 2**32
    return (word >> 22) ^ word


def normal_numbers(seed: int, count: int) -> list[float]:
    half = math.ceil(count / 2)
    words = [hashed((hashed(seed) + i) % 2**32) for i in range(half)]
    pairs = [(math.sqrt(-2 * math.log(((w >> 16) + 1) / 65536)), 2 * math.pi * (w % 65536) / 65536) for w in words]
    return ([r * math.cos(a) for r, a in pairs] + [r * math.sin(a) for r, a in pairs])[:count]


def test_noise_is_a_function_of_the_images_own_seed():
    images = torch.full((2, 3, 5, 3), 0.5)  # 45 values: the last number of the last pair is left over
    augment.noise_(images, factors(0.05, 0.3), factors(7.0, 2.0**24 - 1))
    for image, sigma, seed in zip(images, (0.05, 0.3), (7, 2**24 - 1), strict=True):
        expected = np.clip(0.5 + sigma * np.array(normal_numbers(seed, 45)).reshape(3, 5, 3), 0, 1)
        np.testing.assert_allclose(image.numpy(), expected, rtol=0, atol=1e-6)


def test_noise_is_gaussian_and_independent_from_pixel_to_pixel_and_image_to_image():
    images = torch.full((8, 3, 64, 64), 0.5)
    augment.noise_(images, factors(*[0.05] * 8), factors(*range(8)))
    z = ((images - 0.5) / 0.05).flatten(1).double()
    n = z.numel()
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    for shift in (1, 64, 64 * 64, z.shape[1] // 2):  # along a row, a column, the channels, and within a pair
        assert abs((z[:, shift:] * z[:, :-shift]).mean()) < 4 / (n / 2) ** 0.5
    assert (torch.corrcoef(z) - torch.eye(8)).abs().max() < 5 / z.shape[1] ** 0.5


def test_sobel_is_the_gradient_of_luma_in_the_bounds_it_can_have(images):
    gray = np.einsum("c,nchw->nhw", augment.LUMA, images.numpy().astype(np.float64))
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    expected = np.empty(images.shape)
    for i, plane in enumerate(np.pad(gray, ((0, 0), (1, 1), (1, 1)), mode="reflect")):
        for y, x in np.ndindex(*gray.shape[1:]):
            window = plane[y : y + 3, x : x + 3]
            right, down = (window * kernel).sum(), (window * kernel.T).sum()
            expected[i, :, y, x] = 0.5 + right / 8, 0.5 + down / 8, math.hypot(right, down) / math.sqrt(20)
    augment.sobel_(images)
    np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-6)
    # Of all black and white windows one reaches each bound and none exceeds it.
    windows = torch.from_numpy((np.arange(512)[:, None] >> np.arange(9)) & 1).float().view(512, 1, 3, 3)
    windows = windows.repeat(1, 3, 1, 1)
    augment.sobel_(windows)
    torch.testing.assert_close(windows[:, :, 1, 1].amin(0), torch.zeros(3))
    torch.testing.assert_close(windows[:, :, 1, 1].amax(0), torch.ones(3))


def test_cutout_clears_its_square_and_nothing_else():
    crops = torch.randint(1, 256, (1, 3, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    squares = ((4, 2, 7), (0, 3, 3), (12, 0, 0))  # side, top, left; the second is none, the third is everything
    draw = torch.stack([rows(cutout=s, cutout_top=t, cutout_left=c, noise=0.1, noise_seed=5) for s, t, c in squares])
    without = draw.clone()
    without[:, augment.COLUMN["cutout"]] = 0
    out, expected = (augment.photometric(crops, d[None])[0].numpy() for d in (draw, without))
    for image, (side, top, left) in zip(expected, squares, strict=True):
        image[:, top : top + side, left : left + side] = 0  # the mean after normalisation
    np.testing.assert_array_equal(out, expected)


def test_noise_then_sobel_then_normalise():
    crops = torch.randint(0, 256, (1, 2, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    out = augment.photometric(crops, rows(noise=0.2, noise_seed=11, sobel=1).expand(1, 2, -1))
    expected = crops[0] / 255
    augment.noise_(expected, factors(0.2, 0.2), factors(11.0, 11.0))
    augment.sobel_(expected)
    torch.testing.assert_close(out[0], augment.normalise(expected), rtol=0, atol=1e-5)


LATER = {"noise": 0.1, "noise_seed": 3.0, "sobel": 1.0, "cutout": 5.0, "cutout_top": 2.0, "cutout_left": 9.0}


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, count) crops and draws of everything that is older than noise."""
    crops = torch.randint(0, 256, (1, count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    settings = {"jitter": 1, "brightness": 0.7, "contrast": 1.2, "hue": 0.1, "order": 5, "blur": 0.8, "solarize": 1}
    return crops, torch.stack([rows(**settings) if i % 2 else rows(gray=1) for i in range(count)])[None]


def test_images_that_the_later_operations_leave_alone_keep_every_bit(monkeypatch):
    crops, draw = drawn(6)
    # What there was before them, spelt out.
    expected, old = crops[0] * (1 / 255), draw[0].numpy()
    augment._jitter(expected, old)
    augment._on(expected, old[:, augment.COLUMN["gray"]] > 0, augment.grayscale_)
    sigma = old[:, augment.COLUMN["blur"]]
    augment._on(expected, sigma > 0, partial(augment.blur_, widest=float(sigma.max())), sigma)
    augment._on(expected, old[:, augment.COLUMN["solarize"]] > 0, augment.solarize_)
    augment.normalise(expected)
    touched = draw.clone()
    for name, value in LATER.items():
        touched[:, 2, augment.COLUMN[name]] = value
    others = [0, 1, 3, 4, 5]
    assert torch.equal(augment.photometric(crops, touched)[0, others], expected[others])
    for name in ("noise_", "sobel_", "cutout_"):
        monkeypatch.setattr(augment, name, lambda *_: pytest.fail("called for nothing"))
    assert torch.equal(augment.photometric(crops, draw)[0], expected)


def test_noise_sobel_and_cutout_follow_the_image_not_its_place_in_the_batch():
    crops, draw = drawn(6)
    for i in range(6):
        for name, value in LATER.items():
            draw[:, i, augment.COLUMN[name]] = value + i * (name in ("noise_seed", "cutout_top"))
    out = augment.photometric(crops, draw)
    order = [4, 0, 5, 2]
    again = augment.photometric(crops[:, order], draw[:, order])
    torch.testing.assert_close(again, out[:, order], rtol=0, atol=1e-6)
    alike = augment.photometric(crops[:, :1].expand(1, 6, 3, 16, 16), rows(**LATER).expand(1, 6, -1))
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike), rtol=0, atol=1e-6)  # one seed, one noise
