"""The health of a representation, without labels: how its features fill their space.

RankMe (arXiv:2210.02885), alignment and uniformity (arXiv:2005.10242), and the spread that the training log shows too.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslkit import rng
from sslkit.data.augment import photometric
from sslkit.data.shards import Split
from sslkit.data.views import ViewMaker
from sslkit.diagnostics import alignment, effective_rank, uniformity
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.methods.base import feature_std
from sslkit.probes.features.crops import batches, crops
from sslkit.probes.inspect.attention_meter import AttentionMeter
from sslkit.recipe.sections import CropSection, ViewsSection
from sslkit.workers import cores

# Common to most joint-embedding methods: crops, flips, colours. Blur and solarize are used by some only.
STANDARD_VIEWS = ViewsSection.model_validate(
    {"global": {"count": 2, "scale": (0.25, 1.0)}, "augment": {"blur": 0.0, "solarize": 0.0}}
)


@dataclass(frozen=True)
class HealthImages:
    """The images that features are measured on."""

    split: Split
    rows: np.ndarray  # (n,), which of the split's images
    views: ViewMaker  # makes two views of each, for alignment


def drawn_rows(images: int, count: int, seed: int) -> np.ndarray:
    """``count`` random images, or all if there are fewer: (n,) int64, ascending; larger counts contain smaller ones."""
    return np.sort(rng.generator(seed, "health/images").permutation(images)[:count])


def pair_views(section: ViewsSection, encoder: Encoder, seed: int) -> ViewMaker:
    """A maker of global crops only, at the section's size, by default the encoder's.

    Raises:
        UsageError: a size that is not a multiple of the patch size.
    """
    section = section.model_copy(update={"local": CropSection(count=0)})
    spec = encoder.spec
    return ViewMaker(section, spec.image_size, encoder.patch_size if encoder.vit else 1, seed, spec.in_channels)


@torch.inference_mode()
def representation(
    frozen: FrozenEncoder, images: HealthImages, meter: AttentionMeter | None = None, title: str = ""
) -> dict[str, float]:
    """Measures of the features that the probes use: CLS, or what the model pools.

    Args:
        frozen: the encoder.
        images: n images, at least 2.
        meter: measures the heads on the evaluation crops.
        title: of the progress bars; empty shows none.

    Returns:
        ``rankme`` (of unnormalised features, as in its paper; at most min(n, D)), ``alignment`` (of two views of each
        image), ``uniformity``, and ``feature_std`` (of normalised features, times sqrt(D)); NaN if a feature is not
        finite.
    """
    with meter or nullcontext():
        parts = [_features(frozen, pixels) for _, pixels in crops(images.split, images.rows, frozen, title)]
    pairs = view_pairs(images, frozen, title and f"{title}, views")
    views = [[_features(frozen, view) for view in pair] for pair in pairs]
    first, second = (torch.cat(side) for side in zip(*views, strict=True))
    features = torch.cat(parts)
    return {
        "rankme": effective_rank(features),
        "alignment": alignment(first, second),
        "uniformity": uniformity(features),
        "feature_std": float(feature_std(features)),
    }


def _features(frozen: FrozenEncoder, images: Tensor) -> Tensor:
    """(B, C, S, S) -> (B, D) float32 on the host."""
    with frozen.autocast():
        return frozen.encoder(images).cls.float().cpu()


def view_pairs(images: HealthImages, frozen: FrozenEncoder, title: str = "") -> Iterator[Tensor]:
    """Two views of each image, batch by batch, drawn by (seed, row): (2, B, 3, S, S), normalised for the encoder."""
    # Views come normalised by the recipe's statistics; convert them to those of the encoder.
    mean, std = images.views.mean, images.views.std
    scale = [was / now for was, now in zip(std, frozen.std, strict=True)]
    shift = [(was - now) / std for was, now, std in zip(mean, frozen.mean, frozen.std, strict=True)]
    factor, summand = (torch.tensor(values, device=frozen.device)[:, None, None] for values in (scale, shift))
    with ThreadPoolExecutor(cores()) as pool:
        for part in batches(images.rows, title):
            made = list(pool.map(lambda row: _two_views(images, int(row)), part))
            pixels, draws = (torch.stack(side, 1) for side in zip(*made, strict=True))
            yield photometric(pixels.to(frozen.device), draws, mean, std) * factor + summand


def _two_views(images: HealthImages, row: int) -> tuple[Tensor, Tensor]:
    """(2, C, S, S) uint8 and (2, P): the first two global crops, or the only one of two epochs."""
    image = images.split.image(row)
    epochs = (0,) if images.views.groups[0].count > 1 else (0, 1)
    made = [images.views(image, epoch, row) for epoch in epochs]
    draws = torch.from_numpy(np.concatenate([draws[0] for _, draws in made])[:2])
    return torch.cat([cuts[0] for cuts, _ in made])[:2], draws
