"""The attention to an image over training: one tile per kept encoder."""

from collections.abc import Sequence

from sslkit.plots.attention.maps import HeadMaps, heat_tile, mask_tiles
from sslkit.plots.sheet import Tile
from sslkit.probes.inspect.attention_maps import KeptAttention
from sslkit.probes.inspect.hidden_patches import hide, strategies

MASKING = "attention high"


def mean_tiles(history: Sequence[KeptAttention], number: int, drawn: HeadMaps) -> list[Tile]:
    """Image ``number``'s mean map at each kept epoch."""
    return [heat_tile(f"epoch {kept.epochs:g}", kept.means[number], drawn.tile_size) for kept in history]


def masking_tiles(history: Sequence[KeptAttention], number: int, drawn: HeadMaps, ratio: float) -> list[Tile]:
    """What AttMask would hide of image ``number`` at each kept epoch."""
    maskings = {MASKING: strategies(ratio)[MASKING]}
    hidden = {f"epoch {kept.epochs:g}": hide(maskings, kept.masking[number], number)[MASKING] for kept in history}
    return mask_tiles(drawn, hidden)
