"""Photometric augmentation of whole batches on the training device, each image with its own parameters.

The draws lie on the host, so which images an operation touches is known without asking the device, and only those
are touched. Order: colour jitter, grayscale, blur, solarize as in DINO (arXiv:2104.14294), then Gaussian noise (on the
colours as they end up), Sobel (of the noisy image), normalise, and cutout last: its square is exactly 0, without noise
and without edges in a Sobel image. Rotation is cut with the crop, see ``views``.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import permutations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.views import PHOTOMETRIC

COLUMN = {name: index for index, name in enumerate(PHOTOMETRIC)}
ORDERS = np.array(list(permutations(range(4))))  # (24, 4): jitter's operations in the order they are applied
CACHED_FLOATS = 1 << 15  # 128 KiB of pixels, and several times as much of what the operations make of them
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision


def photometric(crops: Tensor, draw: Tensor) -> Tensor:
    """Augment and normalise.

    Args:
        crops: (V, B, 3, S, S) uint8 on the device.
        draw: (V, B, P) float32 on the host, see ``views.PHOTOMETRIC``.

    Returns:
        (V, B, 3, S, S) float32 with ImageNet's mean and standard deviation taken out. Never under autocast: a blur
        in bf16 would cost two of the eight bits of a pixel.
    """
    with torch.autocast(crops.device.type, enabled=False):
        pixels, rows = crops.flatten(0, 1), draw.flatten(0, 1).numpy()
        out = torch.empty(pixels.shape, device=pixels.device)
        # On a CPU so few images at a time that they stay in its cache from the first operation to the last.
        at_once = max(1, CACHED_FLOATS // pixels[0].numel()) if pixels.device.type == "cpu" else len(pixels)
        for part in range(0, len(pixels), at_once):
            some = slice(part, part + at_once)
            _augment(torch.mul(pixels[some], 1 / 255, out=out[some]), rows[some])
        return out.unflatten(0, crops.shape[:2])


def _augment(images: Tensor, rows: np.ndarray) -> None:
    """(n, 3, H, W) float32 in [0, 1], and the draws of each: all operations in place."""
    _jitter(images, rows)
    _on(images, rows[:, COLUMN["gray"]] > 0, grayscale_)
    sigma = rows[:, COLUMN["blur"]]
    _on(images, sigma > 0, partial(blur_, widest=float(sigma.max(initial=0))), sigma)
    _on(images, rows[:, COLUMN["solarize"]] > 0, solarize_)
    _on(images, rows[:, COLUMN["noise"]] > 0, noise_, *(rows[:, COLUMN[name]] for name in ("noise", "noise_seed")))
    _on(images, rows[:, COLUMN["sobel"]] > 0, sobel_)
    normalise(images)
    square = (rows[:, COLUMN[name]] for name in ("cutout", "cutout_top", "cutout_left"))
    _on(images, rows[:, COLUMN["cutout"]] > 0, cutout_, *square)


def normalise(images: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] -> ImageNet's mean 0 and standard deviation 1, in place."""
    shift, scale = _statistics(images.device)
    return torch.addcmul(shift, images, scale, out=images)


@lru_cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """-mean / std and 1 / std, (3, 1, 1), made once for a device: every copy from the host would wait for it."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (-mean / std).to(device), (1 / std).to(device)


def _on(images: Tensor, where: np.ndarray, operation: Callable[..., object], *values: np.ndarray) -> None:
    """Apply an in-place operation to the chosen images, each with its own values."""
    chosen = np.flatnonzero(where)
    if not len(chosen):
        return
    parameters = [torch.from_numpy(column[chosen])[:, None, None, None] for column in values]
    parameters = [p.to(images.device, non_blocking=True) for p in parameters]
    if len(chosen) == len(images):
        operation(images, *parameters)
        return
    index = torch.from_numpy(chosen).to(images.device, non_blocking=True)
    picked = images[index]
    operation(picked, *parameters)
    images[index] = picked


def _jitter(images: Tensor, rows: np.ndarray) -> None:
    operations = (("brightness", brightness_), ("contrast", contrast_), ("saturation", saturation_), ("hue", hue_))
    active = rows[:, COLUMN["jitter"]] > 0
    order = ORDERS[rows[:, COLUMN["order"]].astype(np.int64)]
    for turn in range(4):
        for number in set(order[active, turn].tolist()):
            name, operation = operations[number]
            _on(images, active & (order[:, turn] == number), operation, rows[:, COLUMN[name]])


# Every operation below changes (n, 3, H, W) images in [0, 1] (cutout: normalised ones) in place; a factor is
# (n, 1, 1, 1).


def luma(x: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W)."""
    red, green, blue = x.split(1, 1)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def grayscale_(x: Tensor) -> None:
    """Luma in all three channels."""
    x.copy_(luma(x))


def brightness_(x: Tensor, factor: Tensor) -> None:
    """Scale towards black."""
    x.mul_(factor).clamp_(0, 1)


def contrast_(x: Tensor, factor: Tensor) -> None:
    """Scale towards the mean luma of the image."""
    mean = luma(x).mean((1, 2, 3), keepdim=True)
    torch.addcmul(mean * (1 - factor), x, factor, out=x).clamp_(0, 1)


def saturation_(x: Tensor, factor: Tensor) -> None:
    """Scale towards the pixel's luma."""
    torch.addcmul(luma(x).mul_(1 - factor), x, factor, out=x).clamp_(0, 1)


def hue_(x: Tensor, shift: Tensor) -> None:
    """Turn the hue of HSV by a share of a whole turn; value and saturation stay.

    With value V, chroma C and hue H in sixths of a turn, channel n of the result is V - C max(0, min(k, 4 - k, 1)),
    k = (n + H) mod 6, for n = 5, 3, 1 (red, green, blue).
    """
    red, green, blue = x.split(1, 1)
    # clamp() by a tensor is maximum() at a quarter of its time.
    value = red.clamp_min(green).clamp_min_(blue)
    chroma = value - red.clamp_max(green).clamp_max_(blue)
    inverse = 1 / chroma.clamp_min(1e-12)
    # The largest channel decides which sixth the hue lies in.
    of_green = torch.addcmul(shift.new_full((), 2.0), blue - red, inverse)
    of_blue = torch.addcmul(shift.new_full((), 4.0), red - green, inverse)
    # where() is slow on a CPU; lerp by 0 or 1 is the same choice.
    chosen = torch.empty_like(value)
    sixths = of_blue.lerp_(of_green, torch.eq(value, green, out=chosen))
    sixths.lerp_((green - blue).mul_(inverse), torch.eq(value, red, out=chosen))
    sixths.add_(shift * 6)
    for channel, n in enumerate((5, 3, 1)):
        # min(k, 4 - k) is a tent around k = 2; with k in [0, 6) its distance to 2 gives it in one go.
        k = sixths + n
        k.sub_((k * (1 / 6)).floor_(), alpha=6)  # remainder() takes three times as long
        k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
        torch.addcmul(value, k, chroma, value=-1, out=x[:, channel : channel + 1])


def solarize_(x: Tensor) -> None:
    """Invert what is brighter than half."""
    torch.where(x >= 128 / 255, 1 - x, x, out=x)


def blur_(x: Tensor, sigma: Tensor, widest: float) -> None:
    """Gaussian blur of each image by its own sigma in pixels, mirrored at the border, cut at three sigma.

    ``widest`` is the largest sigma, given on the host so that the device need not be asked.
    """
    # A narrower kernel's taps beyond its own three sigma are 0, whatever its neighbours are.
    radius = min(math.ceil(3 * widest), x.shape[-1] - 1, x.shape[-2] - 1)
    at = torch.arange(radius + 1, device=x.device)
    taps = (-0.5 * (at / sigma) ** 2).exp_() * (at <= (3 * sigma).ceil())  # (n, 1, 1, radius + 1)
    taps /= 2 * taps.sum(-1, keepdim=True) - taps[..., :1]
    pair = torch.empty_like(x)  # one buffer: fresh memory costs a CPU more than the sum that goes into it
    for axis in (-1, -2):
        side = x.shape[axis]
        border = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        padded = F.pad(x, border, mode="reflect")
        # Shifted copies added up: a depthwise convolution of this width takes five times as long on a CPU.
        torch.mul(padded.narrow(axis, radius, side), taps[..., :1], out=x)
        for k in range(1, radius + 1):
            torch.add(padded.narrow(axis, radius - k, side), padded.narrow(axis, radius + k, side), out=pair)
            x.add_(pair.mul_(taps[..., k : k + 1]))


def noise_(x: Tensor, sigma: Tensor, seed: Tensor) -> None:
    """Gaussian noise of each image's own sigma, a pure function of the image's seed and of the pixel's place.

    The seed is a whole number below 2**24. Neither the batch nor the kind of device changes the noise. Words of 32 bits
    become pairs of normal numbers by Box and Muller's transform, none beyond 4.8 sigma.
    """
    values = x[0].numel()
    at = torch.arange(-(-values // 2), device=x.device)
    words = _pcg(_pcg(seed.flatten(1).to(torch.int64)) + at)  # (n, half of the values)
    radius = (words >> 16).float().add_(1).mul_(2**-16).log_().mul_(-2).sqrt_()
    angle = (words & 0xFFFF).float().mul_(2 * math.pi / 2**16)
    noise = torch.cat([angle.cos() * radius, angle.sin_() * radius], 1)[:, :values]
    x.addcmul_(noise.view_as(x), sigma).clamp_(0, 1)


def _pcg(x: Tensor) -> Tensor:
    """PCG as a hash (Jarzynski and Olano, JCGT 9(3), 2020): int64 to 32 well-mixed bits, in int64 without overflow."""
    state = (x & 0xFFFFFFFF).mul_(747796405).add_(2891336453).bitwise_and_(0xFFFFFFFF)
    word = (state >> (state >> 28).add_(4)).bitwise_xor_(state).mul_(277803737).bitwise_and_(0xFFFFFFFF)
    return (word >> 22).bitwise_xor_(word)


def sobel_(x: Tensor) -> None:
    """Luma's gradient to the right, its gradient downwards and their magnitude, as deep clustering (arXiv:1807.05520).

    Scaled to what [0, 1] can hold at most: no gradient is 0.5, 0.5, 0. Mirrored at the border.
    """
    padded = F.pad(luma(x), (1, 1, 1, 1), mode="reflect")
    across = padded[..., 2:] - padded[..., :-2]
    across = across[..., :-2, :] + across[..., 2:, :] + 2 * across[..., 1:-1, :]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = down[..., :-2] + down[..., 2:] + 2 * down[..., 1:-1]
    # Either gradient is at most 4; both together at most 4 and 2 (one side of the window white, and half of the rest).
    x[:, 2:] = torch.hypot(across, down).mul_(1 / math.sqrt(20))
    x[:, :1] = across.mul_(1 / 8).add_(0.5)
    x[:, 1:2] = down.mul_(1 / 8).add_(0.5)


def cutout_(x: Tensor, side: Tensor, top: Tensor, left: Tensor) -> None:
    """A square of ImageNet's mean, 0 in normalised images; all in pixels (arXiv:1708.04552).

    There the square's centre is uniform and a part may lie outside; here all of it lies in the image, so that the area
    is the one drawn.
    """
    rows = torch.arange(x.shape[-2], device=x.device)[:, None]
    columns = torch.arange(x.shape[-1], device=x.device)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    x.masked_fill_(inside, 0)
