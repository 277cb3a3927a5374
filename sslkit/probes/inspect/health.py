"""The health of a representation, without labels: how it fills its space, and how far its heads look.

Of the features: RankMe (arXiv:2210.02885), alignment and uniformity (arXiv:2005.10242), and the spread that the
training log shows too. Of every head of every block: mean attention distance (arXiv:2010.11929, figure 7;
arXiv:2108.08810, section 4) and the entropy of attention.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslkit import rng
from sslkit.data.augment import photometric
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.shards import Split
from sslkit.data.views import ViewMaker
from sslkit.device import Precision, autocast
from sslkit.diagnostics import alignment, effective_rank, uniformity
from sslkit.encoder.attention import project, rows
from sslkit.encoder.encoder import Encoder
from sslkit.methods.base import feature_std
from sslkit.probes.features.crops import batches, crops
from sslkit.recipe.sections import CropSection, ViewsSection
from sslkit.workers import cores

ATTENTION_FLOATS = 1 << 25  # of one block's attention at a time: 128 MiB
# What most joint-embedding methods have in common: crops, flips, colours. Blur and solarize belong to some.
STANDARD_VIEWS = ViewsSection.model_validate(
    {"global": {"count": 2, "scale": (0.25, 1.0)}, "augment": {"blur": 0.0, "solarize": 0.0}}
)


@dataclass(frozen=True)
class Sample:
    """The images that are looked at, and how.

    Attributes:
        split: where they are.
        rows: (n,) which of them.
        views: makes two views of each, for alignment.
        mean: of the normalisation, per channel, of pixels in 0 ... 1.
        std: the same.
        device: where the encoder computes.
        precision: of its matrix products.
    """

    split: Split
    rows: np.ndarray
    views: ViewMaker
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    precision: Precision


def chosen(images: int, count: int, seed: int) -> np.ndarray:
    """Which of the images are looked at: (n,) int64, ascending; fewer lie inside more."""
    return np.sort(rng.generator(seed, "health/images").permutation(images)[:count])


def pair_views(section: ViewsSection, encoder: Encoder, seed: int) -> ViewMaker:
    """A maker of global crops alone, at the size that the section names or else the encoder's.

    Raises:
        UsageError: a size that patches do not divide.
    """
    section = section.model_copy(update={"local": CropSection(count=0)})
    return ViewMaker(section, encoder.spec.image_size, encoder.patch_size if encoder.vit else 1, seed)


@torch.inference_mode()
def representation(
    encoder: Encoder, sample: Sample, meter: "AttentionMeter | None" = None, title: str = ""
) -> dict[str, float]:
    """Measures of the features that the probes see: CLS, or what the model pools.

    Args:
        encoder: on the device.
        sample: n images, at least 2.
        meter: watches the heads while the evaluation crops pass.
        title: of the progress bars; empty shows none.

    Returns:
        ``rankme`` (of the features as they are, as in its paper; at most min(n, D)), ``alignment`` (of two views of
        each image), ``uniformity``, and ``feature_std`` (of normalised features, times sqrt(D)). NaN where a feature
        is not finite.
    """
    encoder.eval()
    size = encoder.spec.image_size
    seen = crops(sample.split, sample.rows, size, sample.device, sample.mean, sample.std, title)
    with meter or nullcontext():
        features = torch.cat([_features(encoder, pixels, sample) for _, pixels in seen])
    views = [
        [_features(encoder, view, sample) for view in pair] for pair in _pairs(sample, title and f"{title}, views")
    ]
    first, second = (torch.cat(side) for side in zip(*views, strict=True))
    return {
        "rankme": effective_rank(features),
        "alignment": alignment(first, second),
        "uniformity": uniformity(features),
        "feature_std": float(feature_std(features)),
    }


def _features(encoder: Encoder, images: Tensor, sample: Sample) -> Tensor:
    """(B, 3, S, S) -> (B, D) float32 on the host."""
    with autocast(sample.device, sample.precision):
        return encoder(images).cls.float().cpu()


def _pairs(sample: Sample, title: str) -> Iterator[Tensor]:
    """(2, B, 3, S, S) normalised: two views of each image, drawn by (seed, row)."""
    # Views come with ImageNet's statistics taken out; what was trained with others gets its own.
    scale, shift = (torch.tensor(v, device=sample.device)[:, None, None] for v in _renormalising(sample))
    with ThreadPoolExecutor(cores()) as pool:
        for part in batches(sample.rows, title):
            made = list(pool.map(lambda row: _two_views(sample, int(row)), part))
            pixels, draws = (torch.stack(side, 1) for side in zip(*made, strict=True))
            yield photometric(pixels.to(sample.device), draws) * scale + shift


def _two_views(sample: Sample, row: int) -> tuple[Tensor, Tensor]:
    """(2, 3, S, S) uint8 and (2, P): the first two global crops, or the only one of two epochs."""
    image = sample.split.image(row)
    epochs = (0,) if sample.views.groups[0].count > 1 else (0, 1)
    made = [sample.views(image, epoch, row) for epoch in epochs]
    draws = torch.from_numpy(np.concatenate([draws[0] for _, draws in made])[:2])
    return torch.cat([cuts[0] for cuts, _ in made])[:2], draws


def _renormalising(sample: Sample) -> tuple[list[float], list[float]]:
    """Factor and summand, per channel, from ImageNet's normalisation to the encoder's."""
    scale = [was / std for was, std in zip(IMAGENET_STD, sample.std, strict=True)]
    shift = [(was - mean) / std for was, mean, std in zip(IMAGENET_MEAN, sample.mean, sample.std, strict=True)]
    return scale, shift


class AttentionMeter:
    """Mean attention distance and entropy of every head, taken while images pass through the encoder.

    Queries and keys are patches; what CLS and registers get is left out and each row sums to 1 again, so that models
    with and without them compare. Blocks keep their fused attention: their input is read on its way in.

    Args:
        encoder: one whose ``why_no_attention`` has nothing against it; images come at its own size.

    Attributes:
        distances: (N, N) between the centres of patches, pixels.
    """

    def __init__(self, encoder: Encoder):
        self.blocks, self.prefix = list(encoder.model.blocks), encoder.prefix
        side = encoder.spec.image_size
        self.distances = patch_distances(encoder.grid(side, side), encoder.patch_size)
        self._sums: list[Any] = [0.0] * len(self.blocks)  # of (H, 2) float64: distance and entropy, over images
        self._images = [0] * len(self.blocks)
        self._hooks: list[Any] = []

    def __enter__(self) -> "AttentionMeter":
        for layer, block in enumerate(self.blocks):
            self._hooks.append(block.attn.register_forward_pre_hook(partial(self._look, layer)))
        return self

    def __exit__(self, *error: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _look(self, layer: int, attn: Any, inputs: tuple[Tensor, ...]) -> None:
        """Take in what (B, T, D) a block's attention is about to see."""
        patches, block = inputs[0][:, self.prefix :], self.blocks[layer]
        at_once = max(1, ATTENTION_FLOATS // (attn.num_heads * patches.shape[1] ** 2))
        for some in patches.split(at_once):
            attention = rows(block, *project(block, some, some))
            distance = attention_distance(attention, self.distances.to(attention.device))
            both = torch.stack([distance, attention_entropy(attention)], -1)
            self._sums[layer] = self._sums[layer] + both.cpu().double().sum(0)  # MPS has no doubles
            self._images[layer] += len(some)

    def per_head(self) -> dict[str, list[list[float]]]:
        """``distance`` (pixels) and ``entropy`` (nats), (L, H) each, means over images and queries."""
        means = torch.stack([total / count for total, count in zip(self._sums, self._images, strict=True)])
        return {"distance": means[..., 0].tolist(), "entropy": means[..., 1].tolist()}


def patch_distances(grid: tuple[int, int], patch_size: int) -> Tensor:
    """Distances between the centres of all patches of a (rows, columns) grid, in pixels: (N, N)."""
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).float() * patch_size
    return (places[:, None] - places[None]).square().sum(-1).sqrt()


def attention_distance(attention: Tensor, distances: Tensor) -> Tensor:
    """How far a head looks: the distance from query to key, weighted by attention, as a mean over queries.

    Args:
        attention: (..., N, N), rows that sum to 1.
        distances: (N, N).

    Returns:
        (...), in the unit of ``distances``.
    """
    return (attention * distances).sum(-1).mean(-1)


def attention_entropy(attention: Tensor) -> Tensor:
    """Entropy of attention in nats, as a mean over queries: (..., N, N) -> (...), from 0 (one key) to ln N (alike)."""
    return torch.special.entr(attention).sum(-1).mean(-1)
