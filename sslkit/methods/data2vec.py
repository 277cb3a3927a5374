"""data2vec: at hidden patches predict what a moving average makes of the whole image (arXiv:2202.03555).

    teacher(whole crop) -> y = mean over its last K blocks of LayerNorm(output)
    student(masked crop) -> linear y';   L = mean over crops of the mean over hidden patches of smooth_l1(y', y; beta)

The targets are contextual: unlike pixels or a tokenizer's codes each depends on the whole image. Normalising every
block's output keeps one block from dominating, and the targets from vanishing.
"""

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit import ema
from sslkit.data.batch import Batch
from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError
from sslkit.masks.base import Masking, Masks
from sslkit.methods.base import (
    DataFacts,
    Losses,
    Method,
    Preview,
    augmented,
    drop_scales,
    feature_std,
    masked_on_object,
    takes_no,
)
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment


class Data2Vec(Method):
    """Student with a regression layer, and its moving average."""

    class Config(Method.Config):
        """Keys of ``method: {name: data2vec, ...}``."""

        last_blocks: int = Field(default=6, gt=0, le=1000)  # K
        beta: float = Field(default=2.0, gt=0)  # where smooth L1 turns from square to line

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        takes_no(recipe, "heads", "objectives", "views.local")
        assert isinstance(recipe.method, self.Config)
        self.config = recipe.method
        self.student = Encoder.from_section(recipe.encoder)
        self.masking = _checked(recipe, self.student, self.config)
        self.predict = nn.Linear(self.student.width, self.student.width)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.average = ema.MovingAverage(self.teacher, self.student)

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        views = augmented(batch)[0]
        images = views.flatten(0, 1)
        targets, attention = self._teach(images)
        masks = self._draw_masks(batch, views, attention, at)
        drop = drop_scales(self.student, batch, len(views), at, self.recipe.train.seed)
        tokens = self.student(images, mask=masks.mask, drop=drop)
        hidden = tokens.patches.flatten(0, 1)[masks.padded_index]
        wanted = targets.flatten(0, 1)[masks.index]
        value = loss(self.predict(hidden)[: len(wanted)], wanted, masks.token_weights, len(images), self.config.beta)
        metrics = {"loss": value.detach(), "feature_std": feature_std(tokens.cls), "target_std": wanted.std(0).mean()}
        return Losses(value, {**metrics, **masked_on_object(masks, batch.coverage(self.student.patch_size))})

    @torch.no_grad()
    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the teacher."""
        assert self.recipe.teacher is not None
        self.average.follow(self.recipe.teacher.momentum, at)

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """Crops, and what is hidden of them."""
        views = augmented(batch)[0]
        masks = self._draw_masks(batch, views, self._teach(views.flatten(0, 1))[1], at)
        return Preview({"global": views}, masks.mask.unflatten(0, views.shape[:2]))

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The student, which the paper fine-tunes."""
        return self.student, "student"

    @torch.no_grad()
    def _teach(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Targets of all patches (C, N, D), and the attention (C, N) that masks may ask for."""
        encoder, outputs, attention = self.teacher, [], None
        x = encoder.embed(images)
        for index, block in enumerate(encoder.model.blocks):
            if index == encoder.depth - 1 and self.masking.needs_attention:
                attention = encoder.attention_row(block, x, 0).mean(1)
            x = block(x)
            if index >= encoder.depth - self.config.last_blocks:
                outputs.append(x[:, encoder.prefix :])
        return averaged(outputs), attention

    def _draw_masks(self, batch: Batch, views: Tensor, attention: Tensor | None, at: Moment) -> Masks:
        grid, seed = self.student.grid(*views.shape[-2:]), self.recipe.train.seed
        samples, objects = batch.samples.numpy(), batch.coverage(self.student.patch_size)
        return self.masking.draw(seed, at.step, samples, len(views), grid, attention, objects).to(views.device)


# Pure functions.


def averaged(outputs: list[Tensor]) -> Tensor:
    """Outputs of blocks, each (C, N, D) -> (C, N, D) float32: the mean after a LayerNorm without weights."""
    return torch.stack([F.layer_norm(output.float(), output.shape[-1:]) for output in outputs]).mean(0)


def loss(prediction: Tensor, target: Tensor, token_weights: Tensor, crops: int, beta: float) -> Tensor:
    """Smooth L1, averaged over dimensions and hidden tokens of each crop, then over all crops: 0-dim float32.

    Args:
        prediction: (M, D) of the hidden tokens of all crops.
        target: (M, D).
        token_weights: (M,) the token's share of its crop.
        crops: C, unmasked ones included.
        beta: errors below it are squared.
    """
    errors = F.smooth_l1_loss(prediction.float(), target.float(), reduction="none", beta=beta).mean(-1)
    return (errors * token_weights).sum() / crops


def _checked(recipe: Recipe, encoder: Encoder, config: Data2Vec.Config) -> Masking:
    """The recipe's masking, if the recipe is one for this method."""
    masking = recipe.mask
    if recipe.teacher is None:
        raise UsageError("data2vec needs a teacher: add `teacher: {momentum: [0.9998, 0.9998]}`")
    if not isinstance(masking, Masking):
        raise UsageError("data2vec needs a mask, such as --set mask.strategy=block")
    if not encoder.vit:
        raise UsageError(f"data2vec needs patch tokens, which {recipe.encoder.arch} does not have: choose a ViT")
    if config.last_blocks > encoder.depth:
        raise UsageError(f"method.last_blocks is {config.last_blocks}, but the encoder has {encoder.depth}: lower it")
    if masking.needs_attention and (why := encoder.why_no_attention()):
        raise UsageError(f"mask.strategy {masking.strategy} reads attention: {why}; --set encoder.cls_token=null")
    size = recipe.views.global_.size or recipe.encoder.image_size
    rows, columns = encoder.grid(size, size)
    masking.check(rows * columns)
    return masking
