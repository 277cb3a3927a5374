"""I-JEPA: from one part of an image predict a moving average's representations of other parts (arXiv:2301.08243).

    teacher(whole crop) -> y;  student(context patches only) -> predictor(positions of a target block) -> y'
    L = mean over target blocks of smooth_l1(y', LayerNorm(y))

Four target blocks cover 15 to 20 % of the patches each, the context block 85 to 100 % minus the targets. Sizes are
drawn once for a step, places for each crop. All contexts of a step have as many patches as the smallest of some that
the step's own generator draws: a crop left with fewer draws again, one left with more drops some at random. The
authors cut a batch to its smallest context, which would depend on the other processes.
"""

import copy
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit import ema, rng
from sslkit.data.batch import Batch
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.predictor import Predictor, PredictorSection
from sslkit.encoder.sincos_positions import fix_positions
from sslkit.errors import UsageError
from sslkit.methods.base import DataFacts, Losses, Method, Preview, augmented, drop_scales, feature_std, takes_no
from sslkit.recipe.schema import Recipe
from sslkit.recipe.sections import Range, Share
from sslkit.schedules import Moment

Aspect = Annotated[float, Field(ge=0.01, le=100)]
Grid = tuple[int, int]  # rows and columns of patches
DRAWS = 16  # contexts of which the smallest counts, and places tried for a crop


class ImageJepa(Method):
    """Student, its moving average, and a predictor between them."""

    class Config(Method.Config):
        """Keys of ``method: {name: ijepa, ...}``; a scale is a share of the patches, an aspect height / width."""

        targets: int = Field(default=4, gt=0, le=100)
        target_scale: tuple[Share, Share] = (0.15, 0.2)
        target_aspect: tuple[Aspect, Aspect] = (0.75, 1.5)
        context_scale: tuple[Share, Share] = (0.85, 1.0)
        predictor: PredictorSection = PredictorSection()

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        takes_no(recipe, "mask", "heads", "objectives", "views.local")
        assert isinstance(recipe.method, self.Config)
        self.config = recipe.method
        if not recipe.teacher:
            raise UsageError("ijepa needs a teacher: add `teacher: {momentum: [0.996, 1.0]}`")
        self.student = Encoder.from_section(recipe.encoder)
        if not self.student.vit:
            raise UsageError(f"ijepa needs patch tokens, which {recipe.encoder.arch} does not have: choose a ViT")
        fix_positions(self.student)
        self.student.mask_token.requires_grad_(False)  # the student sees the context only
        size = recipe.views.global_.size or recipe.encoder.image_size
        grid = self.student.grid(size, size)
        if min(grid) < 2:
            raise UsageError(f"a crop of {size} px is {grid[0]} x {grid[1]} patches: ijepa needs 2 x 2 or more")
        self.predictor = Predictor(self.student.width, grid, self.config.predictor)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.average = ema.MovingAverage(self.teacher, self.student)

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        views = augmented(batch)[0]
        images = views.flatten(0, 1)
        context, targets = self._draw(batch, views, at)
        with torch.no_grad():
            seen = self.teacher(images)
            wanted = seen.patches.gather(1, targets.flatten(1)[..., None].expand(-1, -1, self.student.width))
        drop = drop_scales(self.student, batch, len(views), at, self.recipe.train.seed)
        tokens = self.student(images, keep=context, drop=drop)
        value = loss(self.predictor(tokens.patches, context, targets), wanted.unflatten(1, targets.shape[1:]))
        return Losses(value, {"loss": value.detach(), "feature_std": feature_std(seen.cls)})

    @torch.no_grad()
    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the teacher."""
        assert self.recipe.teacher is not None
        self.average.follow(self.recipe.teacher.momentum, at)

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """The crops, the context (what is not masked), and each target block."""
        views = augmented(batch)[0]
        context, targets = self._draw(batch, views, at)
        patch, grid = self.student.patch_size, self.student.grid(*views.shape[-2:])
        blank = torch.zeros(*targets.shape[:2], grid[0] * grid[1], device=views.device)
        shown = blank.scatter(2, targets, 1.0).unflatten(2, grid).transpose(0, 1)  # (T, V x B, rows, columns)
        shown = shown.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, None]
        blocks = (views.flatten(0, 1) * shown).unflatten(1, views.shape[:2]).flatten(0, 1)
        hidden = torch.ones_like(blank[:, 0]).scatter(1, context, 0.0).bool().unflatten(0, views.shape[:2])
        return Preview({"global": views, "target": blocks}, hidden)

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The teacher's encoder, which the paper evaluates."""
        return self.teacher, "teacher"

    def _draw(self, batch: Batch, views: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Of V x B crops, view by view, the patches of the context (C, K) and of the targets (C, T, A)."""
        grid, seed = self.student.grid(*views.shape[-2:]), self.recipe.train.seed
        blocks = Blocks(self.config, grid, rng.generator(seed, "blocks-step", at.step))
        crops = ((seed, "blocks", at.step, int(s), view) for view in range(len(views)) for s in batch.samples)
        drawn = zip(*(blocks.draw(rng.generator(*crop)) for crop in crops), strict=True)
        contexts, targets = (torch.from_numpy(np.stack(part)) for part in drawn)
        return contexts.to(views.device, non_blocking=True), targets.to(views.device, non_blocking=True)


class Blocks:
    """The blocks of a step: their sizes, and how many patches a context has."""

    def __init__(self, config: ImageJepa.Config, grid: Grid, shared: np.random.Generator):
        self.grid, self.count = grid, config.targets
        self.target = block_size(shared, grid, config.target_scale, config.target_aspect)
        self.context = block_size(shared, grid, config.context_scale, (1.0, 1.0))
        self.kept = max(1, min(len(self._lay(shared)[0]) for _ in range(DRAWS)))

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Patches of a crop's context (K,) and targets (T, A)."""
        tries = (self._lay(generator) for _ in range(DRAWS))
        found = next((drawn for drawn in tries if len(drawn[0]) >= self.kept), None)
        if found is None:  # on tiny grids: all targets in one place leave enough
            place = self._block(generator, self.target)
            found = np.setdiff1d(np.arange(self.grid[0] * self.grid[1]), place), np.stack([place] * self.count)
        left, targets = found
        return np.sort(generator.permutation(left)[: self.kept]), targets

    def _lay(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What one draw leaves of the context block, and the target blocks."""
        targets = np.stack([self._block(generator, self.target) for _ in range(self.count)])
        return np.setdiff1d(self._block(generator, self.context), targets), targets

    def _block(self, generator: np.random.Generator, size: Grid) -> np.ndarray:
        top, left = (generator.integers(whole - part + 1) for whole, part in zip(self.grid, size, strict=True))
        rows, columns = top + np.arange(size[0]), left + np.arange(size[1])
        return (rows[:, None] * self.grid[1] + columns).ravel()


def block_size(generator: np.random.Generator, grid: Grid, scale: Range, aspect: Range) -> Grid:
    """Rows and columns of a block with a random share of the patches; fewer than the grid has, as the authors' have."""
    area = int(generator.uniform(*scale) * grid[0] * grid[1])
    ratio = generator.uniform(*aspect)
    sides = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
    rows, columns = (min(max(side, 1), whole - 1) for side, whole in zip(sides, grid, strict=True))
    return rows, columns


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """(..., D), (..., D) the teacher's own tokens -> 0-dim, float32: smooth L1 to the layer-normalised target."""
    return F.smooth_l1_loss(prediction.float(), F.layer_norm(target.float(), target.shape[-1:]))
