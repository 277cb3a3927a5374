"""Noise against PCG and the transform of Box and Muller in Python's own numbers, and its statistics."""

import math

import numpy as np
import torch

from sslkit.data.augmentations.noise import Noise


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


def noisy(shape: tuple[int, ...], draws: list[tuple[float, float]]) -> torch.Tensor:
    """Gray images with noise of (sigma, seed)."""
    images = torch.full(shape, 0.5)
    Noise.apply(images, np.array(draws, np.float32))
    return images


def test_noise_is_a_function_of_the_images_own_seed():
    draws = [(0.05, 7), (0.3, 2**24 - 1)]
    images = noisy((2, 3, 5, 3), draws)  # 45 values: the last number of the last pair is left over
    for image, (sigma, seed) in zip(images, draws, strict=True):
        expected = np.clip(0.5 + sigma * np.array(normal_numbers(seed, 45)).reshape(3, 5, 3), 0, 1)
        np.testing.assert_allclose(image.numpy(), expected, rtol=0, atol=1e-6)


def test_noise_is_gaussian_and_independent_from_pixel_to_pixel_and_image_to_image():
    z = ((noisy((8, 3, 64, 64), [(0.05, seed) for seed in range(8)]) - 0.5) / 0.05).flatten(1).double()
    n = z.numel()
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    for shift in (1, 64, 64 * 64, z.shape[1] // 2):  # along a row, a column, the channels, and within a pair
        assert abs((z[:, shift:] * z[:, :-shift]).mean()) < 4 / (n / 2) ** 0.5
    assert (torch.corrcoef(z) - torch.eye(8)).abs().max() < 5 / z.shape[1] ** 0.5


def test_images_without_sigma_keep_every_bit():
    images = noisy((3, 3, 4, 4), [(0, 1), (0.1, 1), (0, 1)])
    assert torch.equal(images[[0, 2]], torch.full((2, 3, 4, 4), 0.5))
    assert not torch.equal(images[1], images[0])
