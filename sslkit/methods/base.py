"""What the training loop asks of a method."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sslkit import rng
from sslkit.data.augment import photometric
from sslkit.data.batch import Batch
from sslkit.device import Precision
from sslkit.encoder import layer_decay
from sslkit.encoder.attention import unfuse_attention
from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError
from sslkit.masks.base import Masks
from sslkit.recipe.schema import Recipe
from sslkit.recipe.sections import MethodSection
from sslkit.schedules import Moment


@dataclass(frozen=True)
class Losses:
    """What a method made of a batch."""

    loss: Tensor  # 0-dim with gradient
    metrics: dict[str, Tensor] = field(default_factory=dict)  # 0-dim without gradient, to be logged
    # What ``after_step`` needs, averaged by the loop over micro-batches and processes.
    statistics: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)  # weighted parts of ``loss``, with gradient, if several


@dataclass(frozen=True)
class DataFacts:
    """What a method may know about the training images before it sees any."""

    samples: int = 0
    classes: int = 0  # number of classes; 0 where none is labelled


@dataclass(frozen=True)
class Preview:
    """What the model sees of a batch, for a picture with one row per image."""

    pictures: dict[str, Tensor]  # by title, in order: (V, B, C, S, S) float, normalised
    masks: Tensor | None = None  # (V, B, N) bool of the first entry of ``pictures``, True = hidden
    captions: Sequence[str] = ()  # a line for each image, such as the right answer


class Method(nn.Module, ABC):
    """How a batch becomes a loss. Parameters that require a gradient are the optimizer's."""

    class Config(MethodSection):
        """Keys of the recipe's ``method`` section."""

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        """Build everything the recipe asks for, or raise ``UsageError`` for what contradicts itself."""
        super().__init__()
        self.recipe = recipe
        self.facts = facts or DataFacts()
        self.remarks: list[str] = []  # on what it does not do with this recipe, for the user

    def suit_device(
        self, device: torch.device, compile_blocks: Literal["auto", "on", "off"], precision: Precision
    ) -> None:
        """Use attention that trains fast on a CPU; compile transformer blocks where that pays, on CUDA."""
        from timm.models.vision_transformer import Block

        compiles = compile_blocks == "on" or (compile_blocks == "auto" and device.type == "cuda")
        if device.type == "cpu" and precision != "fp32":
            unfuse_attention(self)
        for root in (self, *self.frozen_modules()):
            for module in root.modules():
                # Block by block: short to compile, and one piece of code for all blocks of a shape.
                if isinstance(module, Block) and compiles:
                    module.compile()

    @abstractmethod
    def forward(self, batch: Batch, at: Moment) -> Losses:
        """The loss of one micro-batch, already on the device."""

    def begin_epoch(self, at: Moment, features: Callable[[], Tensor]) -> Iterable[nn.Parameter]:
        """Called before the first step of every epoch; what it learns must be in buffers, to survive a resume.

        Args:
            at: the first step of the epoch.
            features: (samples, D) float32 on the host, the exported encoder's CLS of all training images in the order
                of the dataset, the same in every process; costs a pass over the data.

        Returns:
            Parameters that start over: the optimizer resets its state for them.
        """
        return ()

    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Update what has no gradient: the teacher, centres. Called once after each optimizer step."""

    def frozen_parameters(self, at: Moment) -> Iterable[nn.Parameter]:
        """Parameters that do not move yet: their gradients are dropped after clipping, so that they do not decay."""
        return ()

    def frozen_modules(self) -> Iterable[nn.Module]:
        """Models that are used as they are: no submodules of this one, so neither trained nor in its state."""
        return ()

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """What the learning rate of a parameter is multiplied by; 1 for those that are missing.

        Raises:
            UsageError: layer-wise decay of an encoder that is not a ViT.
        """
        decay = self.recipe.optim.layer_decay
        if decay is None:
            return {}
        encoder = next(module for module in self.modules() if isinstance(module, Encoder))  # the student's comes first
        if not encoder.vit:
            raise UsageError(f"optim.layer_decay requires a ViT, which {encoder.spec.arch} is not: leave it out")
        return layer_decay.factors(encoder, decay)

    @abstractmethod
    def preview(self, batch: Batch, at: Moment) -> Preview:
        """What the model sees of a batch."""

    @abstractmethod
    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The encoder that is written out, and which branch it is."""


class Classifying(Method):
    """A method that trains one encoder to classify, whatever the classes are."""

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        takes_no(recipe, "mask", "teacher", "objectives", "heads", "views.local")
        self.encoder = Encoder.from_section(recipe.encoder, recipe.views)
        if self.encoder.vit:
            self.encoder.mask_token.requires_grad_(False)

    def encode(self, images: Tensor, batch: Batch, at: Moment) -> Tensor:
        """(V, B, C, S, S), V images made of each sample of the batch -> CLS (V, B, D)."""
        drop = drop_scales(self.encoder, batch, len(images), at, self.recipe.train.seed)
        return self.encoder(images.flatten(0, 1), drop=drop, patches=False).cls.unflatten(0, images.shape[:2])

    def losses(self, loss: Tensor, logits: Tensor, targets: Tensor, cls: Tensor, **more: Tensor) -> Losses:
        """A loss and what such methods log: of (..., K) logits against (...) targets, and of one view's CLS (B, D)."""
        metrics = {"loss": loss.detach(), "accuracy": accuracy(logits, targets), "feature_std": feature_std(cls)}
        return Losses(loss, {**metrics, **more})

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The only encoder."""
        return self.encoder, "student"


def takes_no(recipe: Recipe, *sections: str) -> None:
    """Raise ``UsageError`` for the first of these sections, or ``views.local``, that the recipe has."""
    for section in sections:
        local = section == "views.local"
        if recipe.views.local.count if local else getattr(recipe, section):
            name, way = ("local crops", "views.local.count=0") if local else (section, f"{section}=null")
            raise UsageError(f"method {recipe.method.name} takes no {name}: --set {way}")


def augmented(batch: Batch) -> list[Tensor]:
    """For each group of views (V, B, C, S, S), augmented and normalised."""
    pairs = zip(batch.crops, batch.photometric, strict=True)
    return [photometric(crops, draw, batch.mean, batch.std) for crops, draw in pairs]


def drop_scales(encoder: Encoder, batch: Batch, views: int, at: Moment, seed: int, group: int = 0) -> Tensor | None:
    """Stochastic depth of V x B images, view by view, keyed by (seed, step, sample, group) like everything random.

    Returns:
        What ``Encoder.forward`` takes as ``drop``, on the batch's device; None when nothing is ever dropped.
    """
    if not encoder.drop_rates:
        return None
    size = (views, len(encoder.drop_rates))
    draws = [rng.generator(seed, "drop-path", at.step, int(s), group).random(size, np.float32) for s in batch.samples]
    # (B, V, 2L) -> (2L, V x B)
    uniforms = torch.from_numpy(np.stack(draws, 1).reshape(-1, size[1]).T.copy())
    scales = encoder.drop_scales(uniforms)
    return None if scales is None else scales.to(batch.crops[0].device, non_blocking=True)


@torch.no_grad()
def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Percent of the (..., K) logits that are largest where the (...) targets say; targets of -1 do not count."""
    known = targets >= 0
    return 100 * ((logits.argmax(-1) == targets) & known).sum() / known.sum().clamp_min(1)


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """(B, D) -> std over the batch of L2-normalised features, mean over D, times sqrt(D).

    0 is collapse, near 1 is healthy.
    """
    unit = nn.functional.normalize(features.float(), dim=-1)
    return unit.std(0, correction=0).mean() * features.shape[-1] ** 0.5


@torch.no_grad()
def masked_on_object(masks: Masks | None, objects: Tensor | None) -> dict[str, Tensor]:
    """The share of hidden tokens that are on the object, and of all tokens, which is what random masks would reach.

    A token is on the object if ``objects`` (C, N), the share of its patch that the object covers, is at least one half.
    """
    if masks is None or objects is None or not masks.counts.any():
        return {}
    on_object = objects >= 0.5
    hidden = (on_object & masks.mask).sum() / masks.mask.sum().clamp_min(1)
    return {"masked_on_object": hidden, "tokens_on_object": on_object.float().mean()}
