"""Images and patch masks as PIL pictures."""

import numpy as np
from PIL import Image
from torch import Tensor

from sslkit.data.evaluation_crop import evaluation_crop

SHADE = (150, 152, 158)  # covers hidden patches: a mid grey that stands out from shadows and from skies
STRENGTH = 0.82  # of that cover


def to_picture(image: Tensor) -> Image.Image:
    """(C, H, W) uint8 -> an RGB picture: gray of one channel or two, else the first three as red, green and blue."""
    image = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))


def square(image: Tensor, largest: int) -> Image.Image:
    """The centre of an image, (C, H, W) uint8 of any size, as a square of at most ``largest`` pixels a side."""
    return to_picture(evaluation_crop(image, min(largest, *image.shape[-2:])))


def fit(picture: Image.Image, width: int, height: int, nearest: bool = False) -> Image.Image:
    """``picture`` resized to this many pixels; ``nearest`` keeps the squares of a map sharp."""
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    return picture.resize((width, height), how)


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """A square of ``side`` pixels; small pictures are enlarged in whole squares, so that no colours blend."""
    return fit(picture, side, side, nearest=picture.width <= side // 2)


def bounded(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width, in the same proportion, whose longer side is ``longest`` pixels.

    >>> bounded(100, 200, 50)
    (25, 50)
    """
    scale = longest / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def stencil(mask: Tensor) -> Image.Image:
    """A mask (h, w) bool as a picture of h x w pixels: white is kept, black is not."""
    return Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255).convert("RGB")


def shade(photo: Image.Image, hidden: Tensor, strength: float = STRENGTH) -> Image.Image:
    """The photo with its hidden patches, (h, w) bool, covered in grey."""
    cover = Image.fromarray((hidden.cpu().numpy() * (255 * strength)).astype(np.uint8))
    return Image.composite(Image.new("RGB", photo.size, SHADE), photo, fit(cover, *photo.size, nearest=True))
