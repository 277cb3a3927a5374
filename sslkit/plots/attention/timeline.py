"""How the attention of each image changed over a training: one encoder after the other, all images each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.plots.attention.hidden import hide, strategies
from sslkit.plots.attention.look import Look, main, masking_look, sights
from sslkit.plots.attention.maps import Portrait, heat_tile, mask_tiles
from sslkit.plots.sheet import Tile

MASKING = "attention high"


@dataclass(frozen=True)
class Moment:
    """One kept encoder.

    Attributes:
        epochs: trained until then.
        means: of each image the (h, w) mean of the heads.
        masking: of each image the (h, w) map that AttMask hides by: CLS in the last layer; none without masks.
    """

    epochs: float
    means: Sequence[Tensor]
    masking: Sequence[Tensor]


def moments(kept: Iterable[tuple[float, Encoder]], entered: Sequence[Tensor], look: Look) -> list[Moment]:
    """Every kept encoder's attention to every image.

    Args:
        kept: epochs and encoders in eval mode; one is in memory at a time if they are made one by one.
        entered: (3, h, w) uint8 images, at the size at which they enter.
        look: as for the trained encoder.
    """
    found = []
    for epochs, encoder in kept:
        encoder.to(look.device).eval()
        shown, hiding = main(encoder, look), masking_look(encoder, look)
        means = [sights(encoder, image, shown)[0].maps.mean(0) for image in entered]
        masking: Sequence[Tensor] = []
        if look.mask_ratio is not None:
            same = shown == hiding
            masking = means if same else [sights(encoder, image, hiding)[0].maps.mean(0) for image in entered]
        found.append(Moment(epochs, means, masking))
    return found


def mean_tiles(history: Sequence[Moment], number: int, portrait: Portrait) -> list[Tile]:
    """Image ``number``'s mean map at each kept epoch."""
    return [heat_tile(f"epoch {moment.epochs:g}", moment.means[number], portrait.tile_size) for moment in history]


def masking_tiles(history: Sequence[Moment], number: int, portrait: Portrait, ratio: float) -> list[Tile]:
    """What AttMask would hide of image ``number`` at each kept epoch."""
    maskings = {MASKING: strategies(ratio)[MASKING]}
    hidden = {f"epoch {moment.epochs:g}": hide(maskings, moment.masking[number], number)[MASKING] for moment in history}
    return mask_tiles(portrait, hidden)
