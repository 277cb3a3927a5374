"""All heads in one picture, each in its own colour (arXiv:2104.14294, figure 10)."""

from PIL import Image
from torch import Tensor

from sslkit.plots.attention.maps import HeadMaps
from sslkit.plots.figure import COLOURS, colour
from sslkit.plots.pictures import fit
from sslkit.plots.sheet import Tile

OPACITY = 0.72


def owners(maps: Tensor, masks: Tensor) -> Tensor:
    """The head that each patch belongs to: of the heads that keep it, the one with the largest share of its mass there.

    Args:
        maps: (heads, h, w) non-negative.
        masks: (heads, h, w) bool, the patches that each head keeps.

    Returns:
        (h, w) int64, heads from 0; -1 where no head keeps the patch.
    """
    share = maps / maps.sum((1, 2), keepdim=True)
    best = share.masked_fill(~masks, -1).max(0)
    return best.indices.masked_fill(best.values < 0, -1)


def coloured_heads(drawn: HeadMaps) -> tuple[Tile, list[tuple[str, str]]]:
    """The photo in grey with each head's patches in its colour.

    Returns:
        The tile, and for each head its name with the number of its patches, and its colour.
    """
    belongs, photo = owners(drawn.maps, drawn.head_masks), drawn.photo()
    picture = photo.convert("L").convert("RGB")
    key = []
    for head in range(len(drawn.maps)):
        mine = belongs == head
        cover = Image.fromarray((mine.numpy() * round(255 * OPACITY)).astype("uint8"))
        picture.paste(Image.new("RGB", photo.size, colour(head)), mask=fit(cover, *photo.size, nearest=True))
        key.append((f"head {head + 1}: {int(mine.sum())}", colour(head)))
    return Tile(f"{len(key)} heads, each its patches", drawn.framed(picture)), key


def key_heading(heads: int, keep: str) -> str:
    """The heading of the picture."""
    again = f"; after {len(COLOURS)} heads the colours repeat" if heads > len(COLOURS) else ""
    shared = "shared ones go to the head with the larger share of its mass there"
    return f"heads in colour: the patches with {keep} of each head's mass, {shared}{again}"
