"""Normalisation of pixels: ImageNet's mean and standard deviation, and how uint8 images become an encoder's input."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

# Of the training images, per channel, with pixels in [0, 1]: what all published ViT checkpoints of ImageNet use.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OTHER_MEAN, OTHER_STD = 0.449, 0.226  # their means over the channels, for a channel that nothing is known of


def statistics(
    channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel; ImageNet's for RGB unless they are given."""
    rgb = channels == len(IMAGENET_MEAN)
    return (
        tuple(mean) if mean is not None else IMAGENET_MEAN if rgb else (OTHER_MEAN,) * channels,
        tuple(std) if std is not None else IMAGENET_STD if rgb else (OTHER_STD,) * channels,
    )


def normalise(images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """Uint8 (..., C, H, W) -> float32 on the same device, minus the mean, divided by the standard deviation.

    Args:
        images: pixels in 0 ... 255.
        mean: per channel, of pixels in [0, 1].
        std: likewise.
    """
    shift, scale = _shift_and_scale(tuple(mean), tuple(std), images.device)
    return images.float().sub_(shift).mul_(scale)


@lru_cache
def _shift_and_scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """255 mean and 1 / (255 std), (C, 1, 1), made once per device: every copy from the host would wait for it."""
    with torch.inference_mode(False):
        shift, deviation = (torch.tensor(values, device=device)[:, None, None] * 255 for values in (mean, std))
        return shift, 1 / deviation


def unnormalise(images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """(..., C, H, W) float, normalised by this mean and standard deviation -> uint8."""
    shift, scale = (torch.tensor(tuple(v), device=images.device)[:, None, None] for v in (mean, std))
    return ((images.float() * scale + shift) * 255).round().clamp(0, 255).to(torch.uint8)
