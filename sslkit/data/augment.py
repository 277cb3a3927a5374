"""Photometric augmentation of whole batches on the training device, each image with its own parameters.

The draws lie on the host, so which images an operation touches is known without asking the device, and only those
are touched. Order as in DINO (arXiv:2104.14294): colour jitter, grayscale, blur, solarize, normalise.
"""

from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from sslkit.data.views import PHOTOMETRIC
from sslkit.encoder import IMAGENET_MEAN, IMAGENET_STD

COLUMN = {name: index for index, name in enumerate(PHOTOMETRIC)}
ORDERS = np.array(list(permutations(range(4))))  # (24, 4): jitter's operations in the order they are applied
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision


def photometric(crops: Tensor, draw: Tensor) -> Tensor:
    """Augment and normalise.

    Args:
        crops: (V, B, 3, S, S) uint8 on the device.
        draw: (V, B, P) float32 on the host, see ``views.PHOTOMETRIC``.

    Returns:
        (V, B, 3, S, S) float32 with ImageNet's mean and standard deviation taken out.
    """
    images = crops.flatten(0, 1).contiguous().float().div_(255)
    rows = draw.flatten(0, 1).numpy()
    _jitter(images, rows)
    _on(images, rows[:, COLUMN["gray"]] > 0, lambda x, _: grayscale(x).expand_as(x))
    _on(images, rows[:, COLUMN["blur"]] > 0, lambda x, chosen: blur(x, _column(rows, chosen, "blur", x)))
    _on(images, rows[:, COLUMN["solarize"]] > 0, lambda x, _: solarize(x))
    return normalise(images).unflatten(0, crops.shape[:2])


def normalise(images: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] -> ImageNet's mean 0 and standard deviation 1, in place."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, device=images.device)[:, None, None]
    return images.sub_(mean).div_(std)


def _on(images: Tensor, where: np.ndarray, operation) -> None:
    """Replace the chosen images by what the operation makes of them."""
    chosen = np.flatnonzero(where)
    if len(chosen):
        index = torch.from_numpy(chosen).to(images.device, non_blocking=True)
        images[index] = operation(images[index], chosen)


def _column(rows: np.ndarray, chosen: np.ndarray, name: str, like: Tensor) -> Tensor:
    """(n, 1, 1, 1) parameters of the chosen images on the device."""
    return torch.from_numpy(rows[chosen, COLUMN[name]].copy()).to(like.device, non_blocking=True)[:, None, None, None]


def _jitter(images: Tensor, rows: np.ndarray) -> None:
    operations = (("brightness", brightness), ("contrast", contrast), ("saturation", saturation), ("hue", hue))
    active = rows[:, COLUMN["jitter"]] > 0
    order = ORDERS[rows[:, COLUMN["order"]].astype(np.int64)]
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    for turn in range(4):
        for number, (name, function) in enumerate(operations):
            where = active & (order[:, turn] == number) & (rows[:, COLUMN[name]] != neutral[name])
            _on(images, where, lambda x, chosen, f=function, n=name: f(x, _column(rows, chosen, n, x)))


def grayscale(x: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W) luma."""
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Scale towards black."""
    return (x * factor).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Scale towards the mean luma of the image."""
    mean = grayscale(x).mean((1, 2, 3), keepdim=True)
    return (x * factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Scale towards the pixel's luma."""
    return (x * factor).add_(grayscale(x) * (1 - factor)).clamp_(0, 1)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by a share of a whole turn; value and saturation stay.

    With value V, chroma C and hue H in sixths of a turn, channel n of the result is V - C max(0, min(k, 4 - k, 1)),
    k = (n + H) mod 6, for n = 5, 3, 1 (red, green, blue).
    """
    red, green, blue = x.unbind(1)
    value, _ = x.max(1)
    chroma = value - x.amin(1)
    safe = chroma.clamp_min(1e-12)
    # The largest channel decides which sixth the hue lies in.
    sixths = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red).div_(safe).add_(2), (red - green).div_(safe).add_(4)),
    )
    sixths = sixths.add_(shift[:, 0] * 6)
    out = torch.empty_like(x)
    for channel, n in enumerate((5, 3, 1)):
        k = (sixths + n).remainder_(6)
        k = torch.minimum(k, 4 - k).clamp_(0, 1)
        out[:, channel] = value - k.mul_(chroma)
    return out


def solarize(x: Tensor) -> Tensor:
    """Invert what is brighter than half."""
    return torch.where(x >= 128 / 255, 1 - x, x)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each image by its own sigma, as one small matrix product for each direction.

    Args:
        x: (n, 3, S, S).
        sigma: (n, 1, 1, 1) pixels. The border is mirrored.
    """
    rows, columns = (_gaussian_matrix(side, sigma[:, 0, 0, 0])[:, None] for side in x.shape[-2:])
    return (rows @ x @ columns.transpose(-2, -1)).clamp_(0, 1)


def _gaussian_matrix(side: int, sigma: Tensor) -> Tensor:
    """(n,) -> (n, side, side): row i holds the weights of all pixels for pixel i, mirrored at the border; sums to 1."""
    at = torch.arange(side, device=sigma.device, dtype=torch.float32)
    scale = -0.5 / sigma[:, None, None] ** 2
    distance = at[:, None] - at[None]
    before, after = at[:, None] + at[None], 2 * (side - 1) - at[:, None] - at[None]
    weights = (distance**2 * scale).exp()
    # A pixel at the very border is its own mirror image and must not count twice.
    weights[:, :, 1:] += (before**2 * scale).exp()[:, :, 1:]
    weights[:, :, :-1] += (after**2 * scale).exp()[:, :, :-1]
    return weights / weights.sum(-1, keepdim=True)
