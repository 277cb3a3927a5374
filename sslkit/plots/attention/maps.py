"""Attention as pictures: what each head looks at, and the tokens that hold most of the mass.

The 60 % mask is that of DINO's attention segmentation (arXiv:2104.14294, section 4.2.2 and appendix A).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from sslkit.encoder.attention import threshold
from sslkit.plots.pictures import bounded, fit, shade, stencil, to_picture
from sslkit.plots.sheet import Tile, compose
from sslkit.probes.inspect.attention_maps import ImageAttention, KeptAttention, Query, first_percent, patch_at
from sslkit.probes.inspect.hidden_patches import hide, strategies

TILE = 176  # pixels, the longer side of a picture on a sheet
MAX_COLUMNS = 6
MASKING = "attention high"
FLAT = 1.5  # a map whose maximum is below this many times the uniform share counts as nearly uniform
QUERY = ((255, 255, 255), (213, 94, 0))  # frame of the query patch: visible on light and on dark


def nearly_uniform(values: Tensor) -> bool:
    """Whether no patch of a map has 1.5 times the uniform share."""
    return bool(values.max() * values.numel() < FLAT * values.sum())


@dataclass(frozen=True)
class HeadMaps:
    """One image, by its name on the page, and what the encoder attends to in it."""

    name: str
    image: Tensor  # (3, H, W) uint8, of any size
    maps: Tensor  # (heads, h, w) float32, attention to each patch
    keep: float = 0.6  # share of the mass in the mask
    query: Query = None  # the token that attends

    @property
    def mean(self) -> Tensor:
        """(h, w) mean over heads."""
        return self.maps.mean(0)

    @property
    def head_masks(self) -> Tensor:
        """(heads, h, w) bool: the fewest patches that hold ``keep`` of each head's mass."""
        return threshold(self.maps.flatten(1), self.keep).view(self.maps.shape)

    @property
    def mask(self) -> Tensor:
        """(h, w) bool: the same for the mean of the heads."""
        return threshold(self.mean.flatten(), self.keep).view(self.mean.shape)

    @property
    def tile_size(self) -> tuple[int, int]:
        """Height and width in pixels on a sheet, in the proportion of the patch grid."""
        return bounded(self.maps.shape[1], self.maps.shape[2], TILE)

    def photo(self) -> Image.Image:
        """The image at tile size, with a frame around a query patch."""
        height, width = self.tile_size
        return self.framed(fit(to_picture(self.image), width, height))

    def framed(self, picture: Image.Image) -> Image.Image:
        """A picture of the image with a frame around the query patch; CLS gets none."""
        if self.query is None:
            return picture
        rows, columns = self.maps.shape[1:]
        row, column = divmod(patch_at(self.query, (rows, columns)), columns)
        box = [column * picture.width / columns, row * picture.height / rows]
        box += [(column + 1) * picture.width / columns - 1, (row + 1) * picture.height / rows - 1]
        draw = ImageDraw.Draw(picture)
        for distance, colour in zip((2, 1), QUERY, strict=True):
            draw.rectangle([box[0] - distance, box[1] - distance, box[2] + distance, box[3] + distance], outline=colour)
        return picture


def shrunk(seen: ImageAttention) -> ImageAttention:
    """The same attention with an image no larger than a tile, so that memory does not grow with the size of photos."""
    height, width = bounded(seen.main.maps.shape[1], seen.main.maps.shape[2], TILE)
    if height >= seen.image.shape[1] and width >= seen.image.shape[2]:
        return seen
    return replace(seen, image=pil_to_tensor(fit(to_picture(seen.image), width, height)))


def heat(values: Tensor) -> Image.Image:
    """A map (h, w) as a picture of h x w pixels in cividis, which looks alike with any colour vision.

    The dark end is 0, the bright end the map's own maximum, so flat attention looks flat.
    """
    scaled = (values / values.max().clamp(min=1e-12)).float().cpu().numpy()
    colours = matplotlib.colormaps["cividis"](scaled)[..., :3]
    return Image.fromarray((colours * 255).round().astype(np.uint8))


def overlay(photo: Image.Image, values: Tensor) -> Image.Image:
    """A map (h, w) in colour over the greyed photo, more opaque where there is more attention."""
    grey = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", photo.size), 0.35)
    opacity = (values / values.max().clamp(min=1e-12)).float().sqrt().mul(217).byte()  # at most 0.85
    cover = Image.fromarray(opacity.cpu().numpy())
    return Image.composite(fit(heat(values), *photo.size), grey, fit(cover, *photo.size))


def percent(value: Tensor | float) -> str:
    """A share in percent with two significant digits, for titles."""
    hundred = 100 * float(value)
    return f"{hundred:.2g} %" if hundred < 99.5 else f"{hundred:.0f} %"


def describe(name: str, values: Tensor) -> str:
    """The title of a map: its maximum as a share of its mass, and a remark if it is nearly uniform."""
    flat = ", nearly uniform" if nearly_uniform(values) else ""
    return f"{name}, max {percent(values.max() / values.sum().clamp(min=1e-12))}{flat}"


def heat_tile(name: str, values: Tensor, size: tuple[int, int]) -> Tile:
    """One map (h, w) as a tile of this height and width in pixels."""
    return Tile(describe(name, values), fit(heat(values), size[1], size[0], nearest=True))


def summary_tiles(drawn: HeadMaps) -> list[Tile]:
    """The original, the mean of the heads, its mask, and both over the photo."""
    photo, mean, mask = drawn.photo(), drawn.mean, drawn.mask
    steps = first_percent(mean.flatten()).view(mean.shape)
    return [
        Tile("original", photo),
        heat_tile("mean", mean, drawn.tile_size),
        Tile(f"{percent(drawn.keep)} of the mass", fit(stencil(mask), *photo.size, nearest=True), steps),
        Tile("mean over photo", drawn.framed(overlay(photo, mean))),
        Tile(f"{percent(drawn.keep)} over photo", shade(photo, ~mask), steps, over_photo=True),
    ]


def head_tiles(drawn: HeadMaps, before: str = "") -> list[Tile]:
    """One map per head; ``before`` is the start of each title."""
    names = (f"{before}head {index}" for index in range(1, len(drawn.maps) + 1))
    return [heat_tile(name, values, drawn.tile_size) for name, values in zip(names, drawn.maps, strict=True)]


def head_mask_tiles(drawn: HeadMaps) -> list[Tile]:
    """One mask per head, over the photo."""
    photo, steps = drawn.photo(), first_percent(drawn.maps.flatten(1)).view(drawn.maps.shape)
    return [
        Tile(f"head {index}, {percent(drawn.keep)}", shade(photo, ~mask), steps[index - 1], over_photo=True)
        for index, mask in enumerate(drawn.head_masks, 1)
    ]


def mask_tiles(drawn: HeadMaps, hidden: dict[str, Tensor]) -> list[Tile]:
    """What masking strategies would hide: ``{name: (h, w) bool}``, True = hidden."""
    photo = drawn.photo()
    return [Tile(f"{name}, {percent(mask.float().mean())}", shade(photo, mask)) for name, mask in hidden.items()]


def masking_tiles(history: Sequence[KeptAttention], number: int, drawn: HeadMaps, ratio: float) -> list[Tile]:
    """What AttMask would hide of image ``number`` at each kept epoch."""
    maskings = {MASKING: strategies(ratio)[MASKING]}
    hidden = {f"epoch {kept.epochs:g}": hide(maskings, kept.masking[number], number)[MASKING] for kept in history}
    return mask_tiles(drawn, hidden)


def draw_sheet(groups: Sequence[Sequence[Tile]], columns: int = MAX_COLUMNS) -> Image.Image:
    """One sheet of groups of tiles, each group on its own rows of at most ``columns``."""
    rows = [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]
    return compose(rows)
