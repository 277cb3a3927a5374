"""How image files become pixels: how many channels, which values are black and white, and how large a file may be."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslkit.errors import SslkitError

RGB = 3
MAX_PIXELS = 178_956_970  # where Pillow refuses too (twice its Image.MAX_IMAGE_PIXELS): 0.5 GB of RGB
STANDARD = (1, 3, 4)  # channels as which an ordinary image can be read: gray, RGB, RGB with alpha
LUMA = (19595, 38470, 7471)  # ITU-R BT.601 in units of 1/65536, as Pillow's convert("L")


@dataclass(frozen=True)
class PixelRules:
    """What a reader of image files is asked for.

    Attributes:
        channels: C of what it returns.
        span: the values that become 0 and 255, for files of more than 8 bits; None: all 16 bits.
        max_pixels: width x height above which a file is refused before it is decoded; None reads any.
    """

    channels: int = RGB
    span: tuple[float, float] | None = None
    max_pixels: int | None = MAX_PIXELS

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image that is too large.

        Raises:
            SslkitError: it is; the message names the option that reads it.
        """
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise SslkitError(f"too large: {width} x {height} pixels; --max-pixels {width * height} reads it")


def to_8_bits(values: Tensor, span: tuple[float, float] | None) -> Tensor:
    """Values of any type as uint8 of the same shape; uint8 is returned as it is.

    Args:
        values: of a numeric type.
        span: the values that become 0 and 255, what lies beyond is clipped and NaN becomes 0; None takes 65535 for
            white.

    Raises:
        SslkitError: without a span, values that are not unsigned 16-bit numbers.
    """
    if values.dtype == torch.uint8:
        return values
    if span is None:
        if values.dtype != torch.uint16:
            found = finite(values)
            between = f"{found.min():g} to {found.max():g}" if found.size else "none is finite"
            raise SslkitError(
                f"its values are {kind_of(values)} ({between}), whose range is unknown: --range auto, or --range LO,HI"
            )
        # 65535 = 257 * 255: rounded division by 257 takes white to white.
        return ((values.to(torch.int32) + 128) // 257).to(torch.uint8)
    low, high = span
    shares = (values.numpy().astype(np.float64) - low) / (high - low)
    return torch.from_numpy(np.rint(np.nan_to_num(shares, posinf=1, neginf=0).clip(0, 1) * 255).astype(np.uint8))


def to_channels(image: Tensor, channels: int) -> Tensor:
    """An image (c, H, W) uint8 with so many channels: (C, H, W).

    Gray is repeated into colours, colours become their luma, and an alpha that is missing is opaque; nothing else
    changes.

    Raises:
        SslkitError: there is no such conversion.
    """
    have = len(image)
    check_channels(have, channels)
    if have == channels:
        return image
    if channels == 1:
        weights = torch.tensor(LUMA, dtype=torch.int32)[:, None, None]
        return ((image.to(torch.int32) * weights).sum(0, keepdim=True) + 32768 >> 16).to(torch.uint8)
    colours = image if have == RGB else image.repeat(RGB, 1, 1)
    return colours if channels == RGB else torch.cat([colours, torch.full_like(image[:1], 255)])


def check_channels(have: int, channels: int) -> None:
    """Refuse an image that has other channels and is not an ordinary one.

    Raises:
        SslkitError: it is such an image.
    """
    if have != channels and not (have in (1, RGB) and channels in STANDARD):
        raise SslkitError(f"has {have} channel{'s' * (have > 1)}, not {channels}")


def finite(values: Tensor) -> np.ndarray:
    """The values that are neither NaN nor infinite, in one dimension for floating-point numbers."""
    found = values.numpy()
    return found[np.isfinite(found)] if found.dtype.kind == "f" else found


def kind_of(values: Tensor) -> str:
    """What to call the type of an image's values: ``16-bit``, ``signed 32-bit`` or ``floating-point``."""
    if values.dtype.is_floating_point:
        return "floating-point"
    return f"{'signed ' if values.dtype.is_signed else ''}{8 * values.element_size()}-bit"
