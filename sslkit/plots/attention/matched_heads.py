"""The matched heads of two encoders, side by side."""

from PIL import Image
from torch import Tensor

from sslkit.plots.attention.maps import heat
from sslkit.plots.pictures import fit
from sslkit.plots.sheet import PAPER, Tile
from sslkit.probes.inspect.head_matching import HeadMatching

SEAM = 4  # pixels between the two pictures of a pair


def pair_tiles(matching: HeadMatching, number: int, ours: Tensor, theirs: Tensor, size: tuple[int, int]) -> list[Tile]:
    """Image ``number``: the two means and each matched pair of heads next to each other, ours on the left."""
    tiles, (height, width) = [], size
    for pair in [matching.mean, *matching.pairs]:
        both = [m.mean(0) if head is None else m[head - 1] for m, head in ((ours, pair.head), (theirs, pair.other))]
        picture = Image.new("RGB", (2 * width + SEAM, height), PAPER)
        for left, values in zip((0, width + SEAM), both, strict=True):
            picture.paste(fit(heat(values), width, height, nearest=True), (left, 0))
        tiles.append(Tile(f"{' | '.join(pair.names)}, {pair.divergences[number]:.2g} bits", picture))
    return tiles
