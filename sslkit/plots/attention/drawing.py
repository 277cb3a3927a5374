"""What is drawn of each image of a gallery, in which order, and in which words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.masks.base import Masking
from sslkit.plots.attention.against import MOST, Comparison, Other, pair_tiles
from sslkit.plots.attention.heads import coloured_heads, key_heading
from sslkit.plots.attention.hidden import hide, strategies
from sslkit.plots.attention.look import Look, Sight, main, spoken
from sslkit.plots.attention.maps import (
    FLAT,
    Portrait,
    head_mask_tiles,
    head_tiles,
    heat_tile,
    mask_tiles,
    nearly_uniform,
    overlay,
    percent,
    summary_tiles,
)
from sslkit.plots.attention.page import Group, render_table
from sslkit.plots.attention.timeline import Moment, masking_tiles, mean_tiles
from sslkit.plots.sheet import Tile


@dataclass(frozen=True)
class Seen:
    """One image with all that is drawn of it.

    Attributes:
        portrait: what is drawn head by head.
        entered: (3, h, w) uint8, the image as the encoder saw it.
        sights: every layer and query, and rollout.
        masking: (h, w) what AttMask hides by; None without masks.
        theirs: (heads, h, w) of the other encoder; None without one.
    """

    portrait: Portrait
    entered: Tensor
    sights: Sequence[Sight]
    masking: Tensor | None = None
    theirs: Tensor | None = None


@dataclass(frozen=True)
class Drawing:
    """All that the pictures of an image depend on, beside the image.

    Attributes:
        encoder: whose attention it is.
        look: what is drawn.
        history: kept encoders, for a timeline.
        other: the second encoder, with its distance from the first.
        comparison: that distance.
    """

    encoder: Encoder
    look: Look
    history: Sequence[Moment] = ()
    other: Other | None = None
    comparison: Comparison | None = None
    maskings: dict[str, Masking] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.look.mask_ratio is not None:
            self.maskings.update(strategies(self.look.mask_ratio))

    @property
    def subject(self) -> str:
        """What is drawn head by head, in words."""
        shown = main(self.encoder, self.look)
        return f"layer {shown.layers[0]} of {self.encoder.depth}, from {spoken(shown.queries[0])}"

    def groups(self, number: int, seen: Seen) -> list[Group]:
        """Everything that is drawn of image ``number``."""
        portrait = seen.portrait
        tile, key = coloured_heads(portrait)
        keep = percent(portrait.keep)
        found = [
            Group(f"mean of the heads, {self.subject}", summary_tiles(portrait)),
            Group("each head", head_tiles(portrait)),
            Group("the mask of each head", head_mask_tiles(portrait)),
            Group(key_heading(len(key), keep), [tile], key),
        ]
        if seen.masking is not None:
            hidden = hide(self.maskings, seen.masking, number)
            found.append(Group("hidden by each masking", mask_tiles(portrait, hidden)))
        return found + self._layers(seen) + self._timeline(number, portrait) + self._beside(number, seen)

    def _layers(self, seen: Seen) -> list[Group]:
        """The means of all layers and queries, rollout, and the heads of what is not drawn already."""
        layers = [sight for sight in seen.sights if sight.layer is not None]
        rolled = [sight for sight in seen.sights if sight.layer is None]
        found = []
        if len(layers) > 1:
            found.append(Group("mean of the heads in each layer", [_mean_tile(s, seen.portrait) for s in layers]))
        if rolled:
            tiles = [tile for sight in rolled for tile in _rollout_tiles(sight, seen.portrait)]
            found.append(Group(f"rollout through {self.encoder.depth} layers", tiles))
        others = [sight for sight in layers if sight.maps is not seen.portrait.maps]
        if others:
            tiles = [tile for sight in others for tile in head_tiles(_of(sight, seen.portrait), f"{sight.name}, ")]
            found.append(Group("each head of the others of these", tiles, folded=True))
        return found

    def _timeline(self, number: int, portrait: Portrait) -> list[Group]:
        if not self.history:
            return []
        found = [
            Group("mean of the heads over the training", mean_tiles(self.history, number, portrait), layout="strip")
        ]
        if self.look.mask_ratio is not None:
            tiles = masking_tiles(self.history, number, portrait, self.look.mask_ratio)
            found.append(Group("hidden by AttMask (attention high) over the training", tiles, layout="strip"))
        return found

    def _beside(self, number: int, seen: Seen) -> list[Group]:
        if self.comparison is None or self.other is None or seen.theirs is None:
            return []
        portrait = seen.portrait
        tiles = pair_tiles(self.comparison, number, portrait.maps, seen.theirs, portrait.tile_size)
        return [Group(f"matched heads: this encoder on the left, {self.other.name} on the right", tiles, layout="wide")]

    def note(self, seen: Seen) -> str:
        """The grid of an image, and what its numbers are to be measured by."""
        rows, columns = seen.portrait.mean.shape
        patches = percent(seen.portrait.mean.sum())
        return (
            f"{rows} x {columns} patches, which get {patches} of the attention; uniform would be 1/{rows * columns} = "
            f"{percent(1 / (rows * columns))} of it each."
        )

    def describe(self, seen: Seen) -> str:
        """The text alternative of a sheet, with its main numbers."""
        portrait, mean = seen.portrait, seen.portrait.mean
        row, column = divmod(int(mean.flatten().argmax()), mean.shape[1])
        peaks = [percent(values.max() / values.sum()) for values in portrait.maps]
        flat = " The mean is nearly uniform." if nearly_uniform(mean) else ""
        return (
            f"Attention maps of {portrait.name}, {self.subject}. Mean of {len(peaks)} heads: maximum "
            f"{percent(mean.max() / mean.sum())} in row {row + 1}, column {column + 1} of {mean.shape[0]} x "
            f"{mean.shape[1]} patches (uniform: {percent(1 / mean.numel())}); {percent(portrait.keep)} of the mass on "
            f"{int(portrait.mask.sum())} of {mean.numel()} patches. Maxima of the heads: {', '.join(peaks)}.{flat}"
        )

    def legend(self) -> list[str]:
        """Paragraphs for the head of the page."""
        text = (
            f"Each map is the attention of {self.subject}, to the patches, one square per patch, dark blue at 0 and "
            "yellow at the map's own maximum, which is given as a share of the map's mass. A mask keeps the fewest "
            f"patches that hold {percent(self.look.keep)} of the mass, or what the slider says. A map whose maximum is "
            f"below {FLAT} times the uniform share is marked as nearly uniform: its pattern says little."
        )
        more = []
        if self.look.mask_ratio is not None:
            ratio = percent(self.look.mask_ratio)
            more.append(
                f"Maskings hide {ratio} of the patches, by the last layer's attention from CLS: what is grey is not "
                "shown to the student."
            )
        if any(query is not None for query in self.look.queries):
            more.append("A frame marks the patch that asks, at shares of the width and the height of the image.")
        if self.look.rollout:
            more.append(
                "Rollout (arXiv:2005.00928) multiplies the attention of all layers, of each the mean of the heads in "
                "equal parts with the identity: from which patches the token comes that leaves the last layer."
            )
        return [text, *more]

    def comparison_table(self, images: int) -> str:
        """The head of the page where two encoders are compared."""
        assert self.comparison is not None and self.other is not None
        rows = []
        for pair in [self.comparison.mean, *self.comparison.pairs]:
            found = pair.as_json()
            around = "none of one image" if found["low"] is None else f"{found['low']:.3g} to {found['high']:.3g}"
            rows.append([*pair.names, f"{found['divergence']:.3g}", around])
        about = [
            f"Jensen-Shannon divergence of the maps in bits, mean over {images} images: 0 for equal maps, {MOST:g} for "
            "maps that share no patch. A row is a head of this encoder and the head of the other that it is matched "
            "with: the matches for which the sum of the divergences is the smallest on these very images. Any two "
            f"heads, matched or not, are {self.comparison.any_two:.3g} bits apart."
        ]
        if self.comparison.alone:
            heads = "1 head" if self.comparison.alone == 1 else f"{self.comparison.alone} heads"
            about.append(f"{heads} of the encoder that has more of them found no partner.")
        if self.comparison.resampled:
            about.append(f"The grids differ; for the divergence maps were averaged: {self.comparison.resampled}.")
        head = ["this encoder", self.other.name, "divergence (bits)", "95 % interval"]
        return render_table(f"Beside {self.other.name}", about, head, rows)


def _of(sight: Sight, portrait: Portrait) -> Portrait:
    return Portrait(portrait.name, portrait.image, sight.maps, portrait.keep, sight.query)


def _mean_tile(sight: Sight, portrait: Portrait) -> Tile:
    mine = _of(sight, portrait)
    tile = heat_tile(sight.name, mine.mean, mine.tile_size)
    return Tile(tile.title, mine.framed(tile.picture))


def _rollout_tiles(sight: Sight, portrait: Portrait) -> list[Tile]:
    mine, tile = _of(sight, portrait), _mean_tile(sight, portrait)
    return [tile, Tile(f"{sight.name}, over photo", mine.framed(overlay(mine.photo(), mine.mean)))]
