"""CLS attention as pictures: what each head looks at, and the tokens that hold most of the mass.

The 60 % mask is the one of DINO's attention segmentation (arXiv:2104.14294, section 4.2.2 and appendix A).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslkit.plots.sheet import Tile, bounded, compose, fit, to_picture

MAX_TOKENS = 8192  # a panorama is scaled down to this many patches: attention costs their square
TILE = 176  # pixels, the longer side of a picture on a sheet
MAX_COLUMNS = 6
SHADE = (150, 152, 158)  # what lies over hidden patches; mid grey is told apart from shadows and from skies


def threshold(attention: Tensor, keep: float = 0.6) -> Tensor:
    """The fewest most-attended tokens of each head that together hold ``keep`` of the head's mass.

    Args:
        attention: (..., N) non-negative; it is normalised to sum to 1 here.
        keep: share of the mass, in (0, 1].

    Returns:
        (..., N) bool.
    """
    share, order = torch.sort(attention / attention.sum(-1, keepdim=True), dim=-1)
    # From the least attended up: what lies beyond the first (1 - keep) of the mass stays.
    kept = share.cumsum(-1) > 1 - keep
    return torch.zeros_like(kept).scatter(-1, order, kept)


def model_size(height: int, width: int, shorter: int, patch: int) -> tuple[int, int]:
    """Height and width, in pixels and multiples of ``patch``, at which a photo enters the encoder.

    The shorter side becomes ``shorter`` (rounded down to a multiple) and the proportion is kept as far as whole
    patches allow; a very long photo is made smaller altogether, to ``MAX_TOKENS`` patches.

    >>> model_size(300, 400, 224, 16)
    (224, 304)
    """
    small = max(shorter // patch, 1)
    long = max(round(small * max(height, width) / min(height, width)), small)
    if small * long > MAX_TOKENS:
        ratio = max(height, width) / min(height, width)
        small = max(int((MAX_TOKENS / ratio) ** 0.5), 1)
        long = min(max(round(small * ratio), small), MAX_TOKENS // small)
    rows, columns = (small, long) if height <= width else (long, small)
    return rows * patch, columns * patch


@dataclass(frozen=True)
class Portrait:
    """One image and what the encoder attends to in it.

    Attributes:
        name: how the image is called on the page.
        image: (3, H, W) uint8, at any size.
        maps: (heads, h, w) float32, attention from CLS to each patch.
        keep: share of the mass in the mask.
    """

    name: str
    image: Tensor
    maps: Tensor
    keep: float = 0.6

    @property
    def mean(self) -> Tensor:
        """(h, w) mean over heads."""
        return self.maps.mean(0)

    @property
    def head_masks(self) -> Tensor:
        """(heads, h, w) bool: per head the tokens that hold ``keep`` of its mass."""
        return threshold(self.maps.flatten(1), self.keep).view(self.maps.shape)

    @property
    def mask(self) -> Tensor:
        """(h, w) bool: the same for the mean of the heads."""
        return threshold(self.mean.flatten(), self.keep).view(self.mean.shape)

    @property
    def tile_size(self) -> tuple[int, int]:
        """Height and width in pixels on a sheet: the proportion of the patch grid."""
        return bounded(self.maps.shape[1], self.maps.shape[2], TILE)

    def photo(self) -> Image.Image:
        """The image at tile size."""
        height, width = self.tile_size
        return fit(to_picture(self.image), width, height)


def heat(values: Tensor) -> Image.Image:
    """A map (h, w) as a picture of h x w pixels: cividis, which reads alike with any colour vision.

    Black end is 0, bright end the map's own maximum, so an attention that is flat looks flat.
    """
    scaled = (values / values.max().clamp(min=1e-12)).float().cpu().numpy()
    colours = matplotlib.colormaps["cividis"](scaled)[..., :3]
    return Image.fromarray((colours * 255).round().astype(np.uint8))


def stencil(mask: Tensor) -> Image.Image:
    """A mask (h, w) bool as black and white, h x w pixels: white is kept."""
    return Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255).convert("RGB")


def shade(photo: Image.Image, hidden: Tensor, strength: float = 0.82) -> Image.Image:
    """The photo with hidden patches (h, w) bool under dark grey; whole patches, by nearest upsampling."""
    cover = Image.fromarray((hidden.cpu().numpy() * (255 * strength)).astype(np.uint8))
    return Image.composite(Image.new("RGB", photo.size, SHADE), photo, fit(cover, *photo.size, nearest=True))


def overlay(photo: Image.Image, values: Tensor) -> Image.Image:
    """A map (h, w) in colour over the greyed photo, the more opaque the more is attended to."""
    grey = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", photo.size), 0.35)
    opacity = (values / values.max().clamp(min=1e-12)).float().sqrt().mul(217).byte()  # at most 0.85
    cover = Image.fromarray(opacity.cpu().numpy())
    return Image.composite(fit(heat(values), *photo.size), grey, fit(cover, *photo.size))


def percent(value: Tensor | float) -> str:
    """A share in percent with two significant digits, as titles need it."""
    return f"{100 * float(value):.2g} %"


def summary_tiles(portrait: Portrait) -> list[Tile]:
    """The original, the mean of the heads, the mask that holds ``keep`` of its mass, and both over the photo."""
    photo, mean, mask = portrait.photo(), portrait.mean, portrait.mask
    return [
        Tile("original", photo),
        Tile(f"mean, max {percent(mean.max())}", fit(heat(mean), *photo.size, nearest=True)),
        Tile(f"{percent(portrait.keep)} of the mass", fit(stencil(mask), *photo.size, nearest=True)),
        Tile("mean over photo", overlay(photo, mean)),
        Tile(f"{percent(portrait.keep)} over photo", shade(photo, ~mask)),
    ]


def head_tiles(portrait: Portrait) -> list[Tile]:
    """One map per head."""
    height, width = portrait.tile_size
    return [
        Tile(f"head {index}, max {percent(values.max())}", fit(heat(values), width, height, nearest=True))
        for index, values in enumerate(portrait.maps, 1)
    ]


def head_mask_tiles(portrait: Portrait) -> list[Tile]:
    """One mask per head, over the photo."""
    photo = portrait.photo()
    return [
        Tile(f"head {index}, {percent(portrait.keep)}", shade(photo, ~mask))
        for index, mask in enumerate(portrait.head_masks, 1)
    ]


def mask_tiles(portrait: Portrait, hidden: dict[str, Tensor]) -> list[Tile]:
    """What masking strategies would hide: ``{name: (h, w) bool}``, True = hidden."""
    photo = portrait.photo()
    return [Tile(f"{name}, {percent(mask.float().mean())}", shade(photo, mask)) for name, mask in hidden.items()]


def draw_sheet(groups: Sequence[Sequence[Tile]]) -> Image.Image:
    """One sheet of groups of tiles, each group on rows of its own of at most six."""
    rows = [group[i : i + MAX_COLUMNS] for group in groups for i in range(0, len(group), MAX_COLUMNS)]
    return compose(rows)
