"""Images that Pillow cannot hold: NumPy files, and TIFFs of more channels or wider values than it knows."""

import io
from importlib.util import find_spec

import numpy as np
import torch
from PIL import TiffImagePlugin
from torch import Tensor

from sslkit.data.pixels.rules import PixelRules
from sslkit.errors import SslkitError

NPY = b"\x93NUMPY"
ALPHA = (1, 2)  # what a TIFF's fourth sample may be, associated or not
BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA, FORMAT = 258, 259, 262, 277, 338, 339  # TIFF tags


def read_npy(data: bytes, rules: PixelRules) -> Tensor:
    """The image in a ``.npy`` file, (C, H, W) with its own type of values.

    Args:
        data: the file.
        rules: say which axis holds the channels, where its length tells.

    Raises:
        SslkitError: it is no image: objects, text, complex numbers, or a shape that is not (H, W), (H, W, C) or
            (C, H, W).
    """
    shape, dtype = _npy_header(data)
    if dtype.hasobject or dtype.kind not in "buif":
        what = "Python objects" if dtype.hasobject else f"values of type {dtype.str if dtype.names is None else dtype}"
        raise SslkitError(f"a NumPy array of {what}, not of numbers")
    axis = channel_axis(shape, rules.channels)
    height, width = (side for at, side in enumerate(shape) if at != axis)
    rules.check_size(width, height)
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise SslkitError(f"damaged NumPy file: {str(error).splitlines()[0]}") from error
    return as_tensor(values if axis is None else np.moveaxis(values, axis, 0))


def _npy_header(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type, without the values."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except (ValueError, EOFError) as error:
        raise SslkitError(f"damaged NumPy file: {str(error).splitlines()[0]}") from error
    return shape, dtype


def npy_layout(data: bytes, channels: int) -> str:
    """How the axes of a NumPy file are read: ``(H, W, C), shape (40, 40, 13)``."""
    shape, _ = _npy_header(data)
    axes = {None: "(H, W)", 0: "(C, H, W)", 2: "(H, W, C)"}[channel_axis(shape, channels)]
    return f"{axes}, shape {shape}"


def channel_axis(shape: tuple[int, ...], channels: int) -> int | None:
    """Which axis of an array holds the channels: 0, -1 (as 2), or None for (H, W).

    An axis as long as the channels asked for; else the one that differs from two equal ones; else the shorter of the
    first and the last.

    Raises:
        SslkitError: it is not the shape of an image.

    >>> channel_axis((32, 40, 13), 3), channel_axis((4, 64, 48), 4), channel_axis((32, 32, 200), 3)
    (2, 0, 2)
    """
    if len(shape) not in (2, 3) or 0 in shape:
        named = "(H, W), (H, W, C) or (C, H, W)"
        raise SslkitError(f"a NumPy array of shape {tuple(shape)}, which is no image: {named}")
    if len(shape) == 2:
        return None
    first, middle, last = shape
    if (first == channels) != (last == channels):
        return 0 if first == channels else 2
    if middle == first != last:
        return 2
    if middle == last != first:
        return 0
    return 2 if last <= first else 0


def as_tensor(values: np.ndarray) -> Tensor:
    """(H, W) or (C, H, W) of any numeric type and byte order as a tensor (C, H, W); bool becomes 0 and 255."""
    values = values if values.ndim == 3 else values[None]
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    kind = values.dtype.newbyteorder("=")
    kind = np.dtype(np.float64) if kind.kind == "f" and kind.itemsize > 8 else kind  # torch has no wider floats
    return torch.from_numpy(np.ascontiguousarray(values, dtype=kind))


def is_wide_tiff(data: bytes) -> bool:
    """Whether a TIFF holds what Pillow would cut down or refuse: several channels of 16 bits, or unknown ones."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return False
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2] == 43 or data[3] == 43 else data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        samples, bits = tags.get(SAMPLES, 1), tags.get(BITS, (1,))
        extra = tags.get(EXTRA, ())
        color = tags.get(PHOTOMETRIC) in (2, 5, 6, 8)  # RGB, CMYK, YCbCr, Lab
    except Exception:  # Damaged files raise anything; Pillow then says what is wrong.
        return False
    if samples == 1:
        return False
    known = (samples, color) in ((3, True), (4, True), (2, False))
    unknown_band = samples == 4 and tags.get(PHOTOMETRIC) == 2 and not set(extra) & set(ALPHA)
    unknown_band |= samples == 2 and not set(extra) & set(ALPHA)
    return max(bits) > 8 or not known or unknown_band


def read_wide_tiff(data: bytes, rules: PixelRules) -> Tensor:
    """The first image of a TIFF, (C, H, W) with its own type of values.

    Raises:
        SslkitError: the extra that reads it is missing, or the file is damaged.
    """
    if not find_spec("tifffile"):
        raise SslkitError("a TIFF of several channels or 16-bit colours: pip install 'sslkit[tiff]' reads it")
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as opened:
            page = opened.pages[0]
            axes, shape = page.axes, page.shape
            if sorted(axes) != ["S", "X", "Y"]:
                raise SslkitError(f"a TIFF of axes {axes}, which is no image")
            rules.check_size(shape[axes.index("X")], shape[axes.index("Y")])
            return as_tensor(page.asarray().transpose([axes.index(axis) for axis in "SYX"]))
    except SslkitError:
        raise
    except Exception as error:  # as with Pillow, of any kind
        raise SslkitError(f"damaged image: {str(error).splitlines()[0] if str(error) else error!r}") from error
