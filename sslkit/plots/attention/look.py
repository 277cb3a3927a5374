"""How an image enters an encoder to be looked at, and the attention that is read from it."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.device import Precision, autocast
from sslkit.encoder.attention import model_size
from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError, UsageError
from sslkit.plots.attention.maps import Query, patch_at


@dataclass(frozen=True)
class Look:
    """How images are looked at.

    Attributes:
        shorter: shorter side in pixels at which an image enters the encoder.
        keep: share of the attention's mass in the masks.
        mask_ratio: also draw what each masking strategy would hide, this share of the patches; None draws none.
        device: where the encoder is.
        precision: of its matrix products; attention is float32 in any case.
        mean: of each colour channel, as the encoder was trained with.
        std: likewise.
        layers: to be drawn, counted from 1, ascending; none means the last. The last one named is drawn head by head.
        queries: tokens whose attention is drawn, the first one in full.
        rollout: also draw attention rollout (arXiv:2005.00928).
    """

    shorter: int
    keep: float = 0.6
    mask_ratio: float | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    layers: tuple[int, ...] = ()
    queries: tuple[Query, ...] = (None,)
    rollout: bool = False

    def layers_of(self, encoder: Encoder) -> tuple[int, ...]:
        """The layers that are drawn of this encoder."""
        return self.layers or (encoder.depth,)


@dataclass(frozen=True)
class Sight:
    """What one token attends to.

    Attributes:
        layer: counted from 1; None is attention rollout through all layers.
        query: the token.
        maps: (heads, h, w) float32 on the CPU; rollout has one "head".
    """

    layer: int | None
    query: Query
    maps: Tensor

    @property
    def name(self) -> str:
        """In words."""
        return f"{'rollout' if self.layer is None else f'layer {self.layer}'}, {spoken(self.query)}"


def spoken(query: Query) -> str:
    """A query in words."""
    return "CLS" if query is None else f"patch at {query[0]:g}, {query[1]:g}"


def enter(encoder: Encoder, image: Tensor, look: Look) -> Tensor:
    """(3, H, W) uint8 of any size -> (3, h, w) uint8 at the size at which it enters the encoder.

    Raises:
        SslkitError: the model is no ViT.
    """
    if not encoder.vit:
        raise SslkitError(f"{encoder.spec.arch} is no ViT: it has no CLS attention to draw; attn-viz needs a ViT")
    size = model_size(image.shape[1], image.shape[2], look.shorter, encoder.patch_size)
    # Resized as bytes on the CPU: a large photo never becomes float.
    return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]


@torch.inference_mode()
def sights(encoder: Encoder, entered: Tensor, look: Look) -> list[Sight]:
    """The attention of one image from each query in each layer, layer by layer; rollout last.

    Args:
        encoder: in eval mode, on ``look.device``.
        entered: (3, h, w) uint8, from ``enter``.
        look: which layers and queries, and at what precision.

    Raises:
        SslkitError: the model has no such layer or no CLS token to ask, or its attention is not finite.
    """
    small = entered.to(look.device)[None]
    mean, std = (torch.tensor(v, device=look.device)[:, None, None] for v in (look.mean, look.std))
    pixels, layers = (small / 255 - mean) / std, look.layers_of(encoder)
    found: list[Sight] = []
    rolled: list[Sight] = []
    grid = encoder.grid(*entered.shape[-2:])
    for query in look.queries:
        token = None if query is None else patch_at(query, grid)
        _check_cls(encoder, query)
        try:
            with autocast(look.device, look.precision):
                maps = encoder.attention_maps(pixels, layers, token)[0]
                found += [Sight(n, query, m.view(-1, *grid).cpu()) for n, m in zip(layers, maps, strict=True)]
                if look.rollout:
                    rolled.append(Sight(None, query, encoder.attention_rollout(pixels, token).view(1, *grid).cpu()))
        except UsageError as error:
            # The command was right; the model cannot do it.
            raise SslkitError(f"{error}; attn-viz needs a plain ViT of timm") from error
    if not all(sight.maps.isfinite().all() for sight in found + rolled):
        raise SslkitError(f"the attention of {encoder.spec.arch} is not finite: its weights hold NaN or infinity")
    found.sort(key=lambda sight: sight.layer or 0)  # stable: within a layer the queries keep their order
    return found + rolled


def _check_cls(encoder: Encoder, query: Query) -> None:
    if query is None and not encoder.has_cls:
        raise SslkitError(
            f"{encoder.spec.arch} has no CLS token: CLS attention cannot be read from it; attn-viz needs a ViT with a "
            f"CLS token, or the attention of a patch by --query 0.5,0.5"
        )


def attend(encoder: Encoder, image: Tensor, look: Look) -> Tensor:
    """The attention that is drawn head by head: from the first query, in the last layer that is named.

    Args:
        encoder: in eval mode, on ``look.device``.
        image: (3, H, W) uint8, of any size.
        look: at what size and precision, from which token in which layer.

    Returns:
        (heads, h, w) float32 on the CPU.

    Raises:
        SslkitError: the model has no such attention, or it is not finite.
    """
    return sights(encoder, enter(encoder, image, look), main(encoder, look))[0].maps


def main(encoder: Encoder, look: Look) -> Look:
    """The same look, at what is drawn head by head alone."""
    return _only(look, look.layers_of(encoder)[-1], look.queries[0])


def masking_look(encoder: Encoder, look: Look) -> Look:
    """The same look, at what AttMask hides by: from CLS, in the last layer.

    Raises:
        SslkitError: masks are to be drawn of a model that has no CLS token.
    """
    if look.mask_ratio is not None and not encoder.has_cls:
        raise SslkitError(f"{encoder.spec.arch} has no CLS token to mask by: leave out --masks")
    return _only(look, encoder.depth, None)


def _only(look: Look, layer: int, query: Query) -> Look:
    return replace(look, layers=(layer,), queries=(query,), rollout=False)
