"""The augmentations in their order, and their photometric part: whole batches on the training device.

Each image has parameters of its own, drawn on the host by ``views``. Colour jitter, grayscale, blur and solarize follow
DINO (arXiv:2104.14294); the augmentations that came later follow those.
"""

from functools import cache, lru_cache

import torch
from torch import Tensor

from sslkit import registry
from sslkit.data.augmentations.base import Augmentation, Photometric
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD

CACHED_FLOATS = 1 << 15  # 128 KiB of pixels, and several times as much of what the operations make of them


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
    with torch.autocast(crops.device.type, enabled=False):
        pixels, rows = crops.flatten(0, 1), draws.flatten(0, 1).numpy()
        out = torch.empty(pixels.shape, device=pixels.device)
        columns, _ = photometric_columns()
        kinds = [(kind, columns[name]) for name, kind in augmentations().items() if issubclass(kind, Photometric)]
        before = [(kind, where) for kind, where in kinds if not kind.after_normalising]
        after = [(kind, where) for kind, where in kinds if kind.after_normalising]
        # On a CPU so few images at a time that they stay in its cache from the first operation to the last.
        at_once = max(1, CACHED_FLOATS // pixels[0].numel()) if pixels.device.type == "cpu" else len(pixels)
        for part in range(0, len(pixels), at_once):
            some = slice(part, part + at_once)
            images = torch.mul(pixels[some], 1 / 255, out=out[some])
            for kind, where in before:
                kind.apply(images, rows[some, where])
            normalise(images, mean, std)
            for kind, where in after:
                kind.apply(images, rows[some, where])
        return out.unflatten(0, crops.shape[:2])


def normalise(images: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> Tensor:
    """(..., C, H, W) in [0, 1] -> mean 0 and standard deviation 1, in place."""
    shift, scale = _shift_and_scale(mean, std, images.device)
    return torch.addcmul(shift, images, scale, out=images)


@lru_cache
def _shift_and_scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """-mean / std and 1 / std, (C, 1, 1), made once for a device: every copy from the host would wait for it."""
    with torch.inference_mode(False):
        average, deviation = (torch.tensor(values)[:, None, None] for values in (mean, std))
        return (-average / deviation).to(device), (1 / deviation).to(device)
