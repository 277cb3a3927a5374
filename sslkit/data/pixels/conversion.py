"""Values of any type and any channels as uint8 of the channels that are asked for."""

import numpy as np
import torch
from torch import Tensor

from sslkit.data.pixels.rules import RGB, check_channels
from sslkit.errors import SslkitError

LUMA = (19595, 38470, 7471)  # ITU-R BT.601 in units of 1/65536, as Pillow's convert("L")


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


def finite(values: Tensor) -> np.ndarray:
    """The values that are neither NaN nor infinite, in one dimension for floating-point numbers."""
    found = values.numpy()
    return found[np.isfinite(found)] if found.dtype.kind == "f" else found


def kind_of(values: Tensor) -> str:
    """What to call the type of an image's values: ``16-bit``, ``signed 32-bit`` or ``floating-point``."""
    if values.dtype.is_floating_point:
        return "floating-point"
    return f"{'signed ' if values.dtype.is_signed else ''}{8 * values.element_size()}-bit"
