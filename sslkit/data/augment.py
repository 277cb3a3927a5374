"""The augmentations in their order, and their photometric part: whole batches on the training device.

Each image has parameters of its own, drawn on the host by ``views``. Colour jitter, grayscale, blur and solarize follow
DINO (arXiv:2104.14294); the augmentations that came later follow those.
"""

from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from sslkit import registry
from sslkit.data.augmentations.base import Augmentation, Photometric, at_once
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD


@cache
def augmentations() -> dict[str, type[Augmentation]]:
    """Every augmentation by its name, in the order in which they run."""
    found = registry.load_all("sslkit.data.augmentations")
    return dict(sorted(found.items(), key=lambda item: item[1].order))


@cache
def photometric_columns() -> tuple[dict[str, slice], int]:
    """Where each photometric augmentation has its columns in a table of draws, and P, how many there are together."""
    columns, first = {}, 0
    for name, kind in augmentations().items():
        if issubclass(kind, Photometric):
            columns[name] = slice(first, first + kind.columns)
            first += kind.columns
    return columns, first


def photometric(
    crops: Tensor, draws: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> Tensor:
    """Augment and normalise.

    Args:
        crops: (V, B, C, S, S) uint8 on the device.
        draws: (V, B, P) float32 on the host, as a ``ViewMaker`` returned them; all 0 only normalises.
        mean: of each channel, with pixels in [0, 1].
        std: likewise.

    Returns:
        (V, B, C, S, S) float32, normalised. Never under autocast: a blur in
        bf16 would cost two of the eight bits of a pixel.
    """
    pixels, rows = crops.flatten(0, 1), draws.flatten(0, 1).numpy()
    images = torch.empty(pixels.shape, device=pixels.device)
    # An image that fills the cache of a CPU goes through all operations before the next one.
    step = 1 if at_once(images) == 1 else max(1, len(images))
    with torch.autocast(crops.device.type, enabled=False):
        for first in range(0, len(images), step):
            some = slice(first, first + step)
            _fill(images[some], pixels[some], rows[some], mean, std)
    return images.unflatten(0, crops.shape[:2])


def _fill(images: Tensor, pixels: Tensor, rows: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Write (n, C, S, S) uint8, augmented by draws (n, P) and normalised, into (n, C, S, S) float32."""
    several = at_once(images)
    for part, of_pixels in zip(images.split(several), pixels.split(several), strict=True):
        part.copy_(of_pixels).mul_(1 / 255)  # not mul(out=): its mix of types is slow on a CPU
    columns, _ = photometric_columns()
    kinds = [(kind, columns[name]) for name, kind in augmentations().items() if issubclass(kind, Photometric)]
    drawn = [(kind, rows[:, where]) for kind, where in kinds if rows[:, where.start].any()]
    for kind, draws in drawn:
        if not kind.after_normalising:
            kind.apply(images, draws)
    for part in images.split(several):
        normalise(part, mean, std)
    for kind, draws in drawn:
        if kind.after_normalising:
            kind.apply(images, draws)


def normalise(images: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> Tensor:
    """(..., C, H, W) in [0, 1] -> mean 0 and standard deviation 1, in place."""
    shift, scale = _shift_and_scale(mean, std, images.device)
    return images.mul_(scale).add_(shift)


@lru_cache
def _shift_and_scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """-mean / std and 1 / std, (C, 1, 1), made once for a device: every copy from the host would wait for it."""
    with torch.inference_mode(False):
        average, deviation = (torch.tensor(values)[:, None, None] for values in (mean, std))
        return (-average / deviation).to(device), (1 / deviation).to(device)
