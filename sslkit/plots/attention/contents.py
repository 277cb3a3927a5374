"""What a gallery of attention maps shows of each image, in which order, and the text next to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sslkit.errors import number_of
from sslkit.plots.attention.heads import coloured_heads, key_heading
from sslkit.plots.attention.maps import (
    FLAT,
    HeadMaps,
    head_mask_tiles,
    head_tiles,
    heat_tile,
    mask_tiles,
    masking_tiles,
    nearly_uniform,
    overlay,
    percent,
    summary_tiles,
)
from sslkit.plots.attention.matched_heads import pair_tiles
from sslkit.plots.attention.page import TileGroup, render_table
from sslkit.plots.sheet import Tile
from sslkit.probes.inspect.attention_maps import AttentionMaps, AttentionReader, ImageAttention, KeptAttention, spoken
from sslkit.probes.inspect.head_matching import MOST, HeadMatching, in_words
from sslkit.probes.inspect.hidden_patches import hide, strategies

TIMELINE = "timeline"  # anchors of the groups that show attention during training begin so


@dataclass(frozen=True)
class GalleryContents:
    """Everything except the image that its pictures depend on.

    Attributes:
        reader: what was read from which encoder.
        keep: share of the attention's mass in the masks.
        mask_ratio: share of the patches that each masking strategy hides; None draws no maskings.
        history: attention of encoders kept during training, for a timeline.
        other: name of the second encoder.
        matching: the heads of the first encoder matched with those of the second; None without one.
    """

    reader: AttentionReader
    keep: float = 0.6
    mask_ratio: float | None = None
    history: Sequence[KeptAttention] = ()
    other: str = ""
    matching: HeadMatching | None = None

    @property
    def subject(self) -> str:
        """What is drawn head by head, in words."""
        main = self.reader.main
        return f"layer {main.layers[0]} of {self.reader.encoder.depth}, from {spoken(main.queries[0])}"

    def head_maps(self, seen: ImageAttention, maps: AttentionMaps | None = None) -> HeadMaps:
        """The given maps of an image, or else those that are drawn head by head."""
        maps = maps or seen.main
        return HeadMaps(seen.name, seen.image, maps.maps, self.keep, maps.query)

    def groups(self, number: int, seen: ImageAttention) -> list[TileGroup]:
        """All pictures of image ``number``."""
        drawn = self.head_maps(seen)
        tile, key = coloured_heads(drawn)
        found = [
            TileGroup(f"mean of the heads, {self.subject}", summary_tiles(drawn)),
            TileGroup("each head", head_tiles(drawn)),
            TileGroup("the mask of each head", head_mask_tiles(drawn)),
            TileGroup(key_heading(len(key), percent(self.keep)), [tile], key),
        ]
        if seen.masking is not None and self.mask_ratio is not None:
            hidden = hide(strategies(self.mask_ratio), seen.masking, number)
            found.append(TileGroup("hidden by each masking", mask_tiles(drawn, hidden)))
        return found + self._layers(seen) + self._timeline(number, drawn) + self._matched(number, seen, drawn)

    def _layers(self, seen: ImageAttention) -> list[TileGroup]:
        """The means of all layers and queries, rollout, and the heads that are not drawn elsewhere."""
        layers = [maps for maps in seen.every if maps.layer is not None]
        rolled = [maps for maps in seen.every if maps.layer is None]
        found = []
        if len(layers) > 1:
            tiles = [self._mean_tile(seen, maps) for maps in layers]
            found.append(TileGroup("mean of the heads in each layer", tiles))
        if rolled:
            tiles = [tile for maps in rolled for tile in self._rollout_tiles(seen, maps)]
            found.append(TileGroup(f"rollout through {self.reader.encoder.depth} layers", tiles))
        others = [maps for maps in layers if maps is not seen.main]
        if others:
            tiles = [t for maps in others for t in head_tiles(self.head_maps(seen, maps), f"{maps.name}, ")]
            found.append(TileGroup("each head of the other maps", tiles, folded=True))
        return found

    def _mean_tile(self, seen: ImageAttention, maps: AttentionMaps) -> Tile:
        drawn = self.head_maps(seen, maps)
        tile = heat_tile(maps.name, drawn.mean, drawn.tile_size)
        return Tile(tile.title, drawn.framed(tile.picture))

    def _rollout_tiles(self, seen: ImageAttention, maps: AttentionMaps) -> list[Tile]:
        drawn = self.head_maps(seen, maps)
        over_photo = Tile(f"{maps.name}, over photo", drawn.framed(overlay(drawn.photo(), drawn.mean)))
        return [self._mean_tile(seen, maps), over_photo]

    def _timeline(self, number: int, drawn: HeadMaps) -> list[TileGroup]:
        if not self.history:
            return []
        tiles = [heat_tile(f"epoch {kept.epochs:g}", kept.means[number], drawn.tile_size) for kept in self.history]
        found = [TileGroup("mean of the heads during training", tiles, layout="strip", anchor=f"{TIMELINE}-{number}")]
        if self.mask_ratio is not None:
            tiles = masking_tiles(self.history, number, drawn, self.mask_ratio)
            found.append(TileGroup("hidden by AttMask (attention high) during training", tiles, layout="strip"))
        return found

    def _matched(self, number: int, seen: ImageAttention, drawn: HeadMaps) -> list[TileGroup]:
        if self.matching is None or seen.other is None:
            return []
        tiles = pair_tiles(self.matching, number, drawn.maps, seen.other, drawn.tile_size)
        return [TileGroup(f"matched heads: this encoder on the left, {self.other} on the right", tiles, layout="wide")]

    def note(self, seen: ImageAttention) -> str:
        """The grid of an image, and the share of a patch if attention were uniform."""
        mean = self.head_maps(seen).mean
        return (
            f"{mean.shape[0]} x {mean.shape[1]} patches, which get {percent(mean.sum())} of the attention; a uniform "
            f"share would be 1/{mean.numel()} = {percent(1 / mean.numel())} of it each."
        )

    def describe(self, seen: ImageAttention) -> str:
        """The text alternative of a sheet, with its main numbers."""
        drawn = self.head_maps(seen)
        mean, mask = drawn.mean, drawn.mask
        row, column = divmod(int(mean.flatten().argmax()), mean.shape[1])
        peaks = [percent(values.max() / values.sum()) for values in drawn.maps]
        flat = " The mean is nearly uniform." if nearly_uniform(mean) else ""
        return (
            f"Attention maps of {seen.name}, {self.subject}. Mean of {len(peaks)} heads: maximum "
            f"{percent(mean.max() / mean.sum())} in row {row + 1}, column {column + 1} of {mean.shape[0]} x "
            f"{mean.shape[1]} patches (uniform: {percent(1 / mean.numel())}); {percent(self.keep)} of the mass on "
            f"{int(mask.sum())} of {mean.numel()} patches. Maxima of the heads: {', '.join(peaks)}.{flat}"
        )

    @property
    def title(self) -> str:
        """Of the page: the architecture, and the sizes that it was built with, which its name may contradict."""
        encoder, pixels = self.reader.encoder, self.reader.frozen.size
        sizes = f"{encoder.width} wide, {number_of(encoder.depth, 'block')}, patch {encoder.patch_size}, {pixels} px"
        return f"Attention of {encoder.spec.arch}: {sizes}"

    def links(self) -> list[tuple[str, str]]:
        """Sentences on what is far down the page, each with its anchor."""
        if not self.history:
            return []
        epochs = [kept.epochs for kept in self.history]
        span = f"from epoch {epochs[0]:g} to {epochs[-1]:g}" if len(epochs) > 1 else f"at epoch {epochs[0]:g}"
        text = f"The timeline, attention during training {span}, comes last for each image; go to the first one."
        return [(text, f"{TIMELINE}-0")]

    def legend(self) -> list[str]:
        """Paragraphs for the top of the page."""
        text = (
            f"Each map is the attention of {self.subject}, to the patches, one square per patch, dark blue at 0 and "
            "yellow at the map's own maximum, which is given as a share of the map's mass. A mask keeps the fewest "
            f"patches that hold {percent(self.keep)} of the mass, or what the slider says. A map whose maximum is "
            f"below {FLAT} times the uniform share is marked as nearly uniform: its pattern says little."
        )
        more = []
        if self.mask_ratio is not None:
            ratio = percent(self.mask_ratio)
            more.append(
                f"Maskings hide {ratio} of the patches, by the last layer's attention from CLS: the student does not "
                "see the grey ones."
            )
        if any(query is not None for query in self.reader.queries):
            more.append("A frame marks the query patch, named by its position in shares of width and height.")
        if self.reader.rollout:
            more.append(
                "Rollout (arXiv:2005.00928) multiplies the attention of all layers, each the mean of its heads in "
                "equal parts with the identity: it shows which patches the output token comes from."
            )
        return [text, *more]

    def comparison_table(self, images: int) -> str:
        """The table at the top of the page that compares two encoders."""
        assert self.matching is not None
        pairs = [self.matching.mean, *self.matching.pairs]
        rows = [[*pair.names, *in_words(pair.as_json())] for pair in pairs]
        about = [
            f"Jensen-Shannon divergence of the maps in bits, mean over {images} images: 0 for equal maps, {MOST:g} for "
            "maps that share no patch. Each row matches a head of this encoder with one of the other; the matches "
            "minimise the sum of the divergences on these very images. Any two heads, matched or not, are "
            f"{self.matching.any_two:.3g} bits apart on average."
        ]
        if self.matching.alone:
            heads = "1 head" if self.matching.alone == 1 else f"{self.matching.alone} heads"
            about.append(f"{heads} of the encoder with more heads found no partner.")
        if self.matching.resampled:
            about.append(f"The grids differ; for the divergence, maps were averaged: {self.matching.resampled}.")
        head = ["this encoder", self.other, "divergence (bits)", "95 % interval"]
        return render_table(f"Compared with {self.other}", about, head, rows)
