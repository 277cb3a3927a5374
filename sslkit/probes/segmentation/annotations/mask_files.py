"""Reading mask files, and all that a set of them holds: in one pass, from which its encoding is chosen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sslkit import registry
from sslkit.data.pixels.rules import DEFAULT, PixelRules
from sslkit.data.prepare.formats import load_plugins
from sslkit.errors import SslkitError
from sslkit.probes.segmentation.annotations.colour_table import ColourTable, find_table
from sslkit.probes.segmentation.annotations.encodings.base import PACKAGE, MaskEncoding, SeenPixels

FEW = 1 << 16  # values from 0
MOST_COLOURS = 1 << 16  # more in one set are no classes, and not worth counting


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of a set by their encoding.

    Attributes:
        encoding: what pixels stand for.
        colour: whether masks are read in colour.
        counts: how many pixels of all masks have each value, ``UNKNOWN`` included.
        rules: say how large a mask may be.
    """

    encoding: MaskEncoding
    colour: bool
    counts: Mapping[int, int]
    rules: PixelRules = DEFAULT

    def read(self, path: Path) -> np.ndarray:
        """The value of every pixel, int64 (H, W)."""
        return self.encoding.values(read_pixels(path, self.colour, self.rules)[0])


def open_masks(masks: Sequence[Path], table: ColourTable | None, rules: PixelRules = DEFAULT) -> MaskReader:
    """Look at all masks and choose how to read them.

    Args:
        masks: the files.
        table: the colours of the classes, if known; otherwise one that lies next to the masks is used.
        rules: say how large a mask may be.

    Raises:
        SslkitError: a file is not a mask, or what they hold fits no encoding.
    """
    found = [_counted(path, False, rules) for path in masks]
    colour = any(coloured for _, coloured in found)
    if colour:
        # Some of them may be grey or have a palette: then it is their colours that count.
        found = [one if one[1] else _counted(path, True, rules) for one, path in zip(found, masks, strict=True)]
    total = Counter[int]()
    for counts, _ in found:
        total.update(counts)
    if colour and table is None:
        table = find_table(masks[0].parent, total)
    seen = SeenPixels(not colour, np.array(sorted(total), np.int64), table)
    encodings = registry.load_all(PACKAGE).values()
    kind = max((one for one in encodings if one.recognise(seen)), key=lambda one: one.specific)
    encoding = kind(seen)
    counts = Counter[int]()
    for value, pixel in zip(encoding.values(seen.colours).tolist(), seen.colours.tolist(), strict=True):
        counts[value] += total[pixel]
    return MaskReader(encoding, colour, counts, rules)


def read_pixels(path: Path, colour: bool = False, rules: PixelRules = DEFAULT) -> tuple[np.ndarray, bool]:
    """The pixels of a mask file, int64 (H, W), and whether they are colours (0xRRGGBB).

    Grey images, and colour images that are grey throughout, give their values, palette images their indices; with
    ``colour`` all of them give colours.

    Raises:
        SslkitError: the file is not an image, too large, or holds fractions.
    """
    try:
        load_plugins()
        with Image.open(path) as opened:
            rules.check_size(*opened.size)
            wide = opened.mode.startswith(("I", "F"))
            pixels = np.asarray(opened.convert("RGB") if colour and not wide else opened)
    except SslkitError as error:
        raise SslkitError(f"{path} is {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise SslkitError(f"{path} cannot be read as a mask ({str(error).splitlines()[0][:80]})") from error
    if pixels.dtype.kind == "f" and not (pixels == np.round(pixels)).all():
        raise SslkitError(f"{path} holds fractions: save masks as grey or palette images of class numbers")
    if pixels.ndim == 2:
        return pixels.astype(np.int64), False
    pixels = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels  # without alpha
    if not colour and (pixels == pixels[..., :1]).all():
        return pixels[..., 0].astype(np.int64), False
    pixels = pixels.astype(np.int64)
    return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], True


def brightness(pixels: np.ndarray) -> np.ndarray:
    """0xRRGGBB -> the largest of the three."""
    return np.maximum(np.maximum(pixels >> 16, pixels >> 8 & 255), pixels & 255)


def _counted(path: Path, colour: bool, rules: PixelRules) -> tuple[dict[int, int], bool]:
    pixels, coloured = read_pixels(path, colour, rules)
    if 0 <= pixels.min() <= pixels.max() < FEW:
        counts = np.bincount(pixels.ravel())  # many times faster than sorting
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(pixels, return_counts=True)
    if coloured and len(values) > MOST_COLOURS:
        raise SslkitError(
            f"{path} is in {len(values)} colours, as a photo: masks have a colour or number for each class"
        )
    return dict(zip(values.tolist(), counts.tolist(), strict=True)), coloured
