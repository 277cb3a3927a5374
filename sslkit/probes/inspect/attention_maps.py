"""Attention maps of images: what chosen tokens attend to in chosen layers, head by head."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.encoder.attention import threshold
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.input_size import input_size
from sslkit.encoder.layer_attention import attention_maps, attention_rollout
from sslkit.errors import SslkitError, UsageError

Query = tuple[float, float] | None  # a token: a patch by its position, see ``patch_at``; None is CLS


def patch_at(query: tuple[float, float], grid: tuple[int, int]) -> int:
    """The patch, counted row by row, at a position in shares of an image's width and height.

    >>> patch_at((0.5, 0.0), (3, 4))
    2
    """
    column, row = (min(int(share * size), size - 1) for share, size in zip(query, (grid[1], grid[0]), strict=True))
    return row * grid[1] + column


def spoken(query: Query) -> str:
    """A query in words."""
    return "CLS" if query is None else f"patch at {query[0]:g}, {query[1]:g}"


def first_percent(attention: Tensor) -> Tensor:
    """The whole percent of the mass from which each token is in the mask: ``threshold`` at every percent in one map.

    Args:
        attention: (..., N) non-negative.

    Returns:
        (..., N) uint8: ``threshold(attention, p / 100)`` is ``first_percent(attention) <= p`` for p in 1 to 100; 101
        for a token that nothing attends to.
    """
    masks = torch.stack([threshold(attention, p / 100) for p in range(1, 101)])
    return (101 - masks.sum(0)).to(torch.uint8)


@dataclass(frozen=True)
class AttentionMaps:
    """What one token attends to in one layer."""

    layer: int | None  # counted from 1; None is attention rollout through all layers
    query: Query
    maps: Tensor  # (heads, h, w) float32 on the CPU; rollout has one "head"

    @property
    def name(self) -> str:
        """Layer and token in words."""
        return f"{'rollout' if self.layer is None else f'layer {self.layer}'}, {spoken(self.query)}"


@dataclass(frozen=True)
class AttentionReader:
    """Reads an encoder's attention, one image of any size at a time, its shorter side scaled to ``frozen.size``."""

    frozen: FrozenEncoder
    layers: tuple[
        int, ...
    ] = ()  # counted from 1, ascending; the last one is the main layer; empty means the last layer
    queries: tuple[Query, ...] = (None,)  # tokens whose attention is read; the first one is the main query
    rollout: bool = False  # also read attention rollout (arXiv:2005.00928)

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self.frozen.encoder

    @property
    def main(self) -> "AttentionReader":
        """A reader of the main layer and the main query only: what is drawn head by head."""
        layers = (self.layers or (self.encoder.depth,))[-1:]
        return replace(self, layers=layers, queries=self.queries[:1], rollout=False)

    @property
    def masking(self) -> "AttentionReader":
        """A reader of what AttMask masks by: the last layer, from CLS.

        Raises:
            SslkitError: the model has no CLS token.
        """
        if not self.encoder.has_cls:
            raise SslkitError(f"{self.encoder.spec.arch} has no CLS token to mask by: leave out --masks")
        return replace(self, layers=(self.encoder.depth,), queries=(None,), rollout=False)

    def of(self, encoder: Encoder) -> "AttentionReader":
        """The same reader for another encoder of the same kind, moved to the device, in eval mode."""
        return replace(self, frozen=replace(self.frozen, encoder=encoder.to(self.frozen.device).eval()))

    def resize(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 of any size -> (3, h, w) uint8 at the encoder's input size.

        Raises:
            SslkitError: the model is not a ViT.
        """
        if not self.encoder.vit:
            arch = self.encoder.spec.arch
            raise SslkitError(f"{arch} is not a ViT and has no CLS attention to draw; attn-viz requires a ViT")
        size = input_size(image.shape[1], image.shape[2], self.frozen.size, self.encoder.patch_size)
        # Resized as bytes on the CPU: a large photo never becomes float.
        return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]

    @torch.inference_mode()
    def read(self, resized: Tensor) -> list[AttentionMaps]:
        """The attention from each query in each layer, layer by layer; rollout last.

        Args:
            resized: (3, h, w) uint8, from ``resize``.

        Raises:
            SslkitError: the model has no such layer or no CLS token, or its attention is not finite.
        """
        encoder, layers = self.encoder, self.layers or (self.encoder.depth,)
        if None in self.queries and not encoder.has_cls:
            raise SslkitError(
                f"{encoder.spec.arch} has no CLS token, so CLS attention cannot be read from it; use a ViT with a CLS "
                "token, or draw the attention of a patch with --query 0.5,0.5"
            )
        pixels, grid = self.frozen.normalise(resized[None]), self.encoder.grid(*resized.shape[-2:])
        found: list[AttentionMaps] = []
        rolled: list[AttentionMaps] = []
        for query in self.queries:
            token = None if query is None else patch_at(query, grid)
            try:
                with self.frozen.autocast():
                    maps = attention_maps(encoder, pixels, layers, token)[0]
                    found += [
                        AttentionMaps(n, query, m.view(-1, *grid).cpu()) for n, m in zip(layers, maps, strict=True)
                    ]
                    if self.rollout:
                        through = attention_rollout(encoder, pixels, token).view(1, *grid).cpu()
                        rolled.append(AttentionMaps(None, query, through))
            except UsageError as error:
                # The command was right; the model cannot do it.
                raise SslkitError(f"{error}; attn-viz requires a plain ViT of timm") from error
        if not all(each.maps.isfinite().all() for each in found + rolled):
            raise SslkitError(f"the attention of {encoder.spec.arch} is not finite: {self.frozen.why_not_finite}")
        found.sort(key=lambda each: each.layer or 0)  # stable: within a layer the queries keep their order
        return found + rolled

    def main_maps(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 of any size -> (heads, h, w) float32 on the CPU: the main query's maps in the main layer.

        Raises:
            SslkitError: the model has no such attention, or it is not finite.
        """
        resized = self.resize(image)  # first, because it refuses what is not a ViT
        return self.main.read(resized)[0].maps


@dataclass(frozen=True)
class ImageAttention:
    """One named image with all the attention that was read."""

    name: str
    image: Tensor  # (3, H, W) uint8, of any size
    resized: Tensor  # (3, h, w) uint8, as it entered the encoder
    main: AttentionMaps  # what is drawn head by head
    every: Sequence[AttentionMaps]  # all layers and queries, the main maps among them, and rollout
    masking: Tensor | None = None  # (h, w), what AttMask masks by, if requested
    other: Tensor | None = None  # (heads, h, w), main maps of a second encoder, if there is one


def read_images(
    images: Iterable[tuple[str, Tensor]],
    reader: AttentionReader,
    masking: bool = False,
    other: AttentionReader | None = None,
) -> Iterator[ImageAttention]:
    """The attention to each named (3, H, W) uint8 image, and if requested what AttMask masks by.

    Raises:
        SslkitError: an encoder without such attention.
    """
    for name, image in images:
        resized = reader.resize(image)
        every, main = reader.read(resized), reader.main
        shown = next(each for each in every if (each.layer, each.query) == (main.layers[0], main.queries[0]))
        hiding = _masking_mean(reader, resized, shown.maps) if masking else None
        yield ImageAttention(name, image, resized, shown, every, hiding, other.main_maps(image) if other else None)


@dataclass(frozen=True)
class KeptAttention:
    """The attention to every image of one encoder that was kept during training."""

    epochs: float  # trained until then
    means: Sequence[Tensor]  # of each image the (h, w) mean of the heads
    masking: Sequence[Tensor]  # of each image the (h, w) map that AttMask masks by, if requested


def read_kept(
    kept: Iterable[tuple[float, Encoder]], images: Sequence[Tensor], reader: AttentionReader, masking: bool = False
) -> list[KeptAttention]:
    """Every kept encoder's attention to every image, (3, h, w) uint8 resized by ``reader``, that of the final encoder.

    Only one encoder is in memory at a time if ``kept``, epochs and encoders, is a generator.
    """
    found = []
    for epochs, encoder in kept:
        own = reader.of(encoder)
        maps = [own.main.read(image)[0].maps for image in images]
        hiding = [_masking_mean(own, *pair) for pair in zip(images, maps, strict=True)] if masking else []
        found.append(KeptAttention(epochs, [each.mean(0) for each in maps], hiding))
    return found


def _masking_mean(reader: AttentionReader, resized: Tensor, main: Tensor) -> Tensor:
    """(h, w) mean over heads of what AttMask masks by; read again only if the main maps differ from it."""
    same = reader.masking == reader.main
    return (main if same else reader.masking.read(resized)[0].maps).mean(0)
