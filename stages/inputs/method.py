"""A method and its training images, opened from a run and a recipe: what ``pretrain`` and ``preview`` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslkit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from sslkit.data.batch import Batch
    from sslkit.data.shards import Split
    from sslkit.data.views import ViewMaker
    from sslkit.methods.base import Method, Preview
    from sslkit.recipe.schema import Recipe
    from stages.contract.layout import Run
    from stages.inputs.teacher import FrozenTeacher


@dataclass(frozen=True)
class OpenMethod:
    """A method on its device, before it has seen an image, and the training images with the maker of their views."""

    method: Method
    views: ViewMaker
    images: Split
    device: torch.device
    teacher: FrozenTeacher | None = None

    @property
    def wants_objects(self) -> bool:
        """Whether the method may need the true object masks; only masks do."""
        return self.method.recipe.mask is not None

    def batch(self, count: int) -> Batch:
        """The first images of the training set with their views of epoch 0, on the device."""
        import numpy as np

        from sslkit.data.loader import ViewBatches

        indices = np.arange(min(count, len(self.images)))
        return ViewBatches(self.images, self.views, self.wants_objects)[0, indices].to(self.device)

    def draw(self, preview: Preview, path: Path) -> None:
        """Write a preview's picture."""
        from sslkit.plots.views import draw_views

        encoder, _ = self.method.exported()
        statistics = self.views.mean, self.views.std
        first = next(iter(preview.pictures.values()))
        grid = encoder.grid(*first.shape[-2:]) if preview.masks is not None else None
        draw_views(preview.pictures, preview.masks, grid, preview.captions, path, statistics=statistics)

    @property
    def remarks(self) -> list[str]:
        """What the user should know about the teacher, the method, and what the channels of the images change."""
        from sslkit.data.pixels.rules import counted

        left, channels = self.views.left_out, self.images.channels
        of = counted(channels)
        remarks = [*([self.teacher.line()] if self.teacher else []), *self.method.remarks]
        if left:
            remarks.append(f"{', '.join(left)} left out: defined for RGB, not for {of}")
        if channels not in (1, 3):
            remarks.append(f"pictures show the first {'channel' if channels == 2 else 'three'} of {of}")
        return remarks


def open_method(run: Run, recipe: Recipe, device: torch.device) -> OpenMethod:
    """Build a recipe's method for a run's data.

    Raises:
        UsageError: the recipe contradicts itself or the data.
    """
    import torch

    from sslkit import registry
    from sslkit.data.shards import open_split
    from sslkit.data.views import ViewMaker
    from sslkit.encoder.recompute import recompute_blocks
    from sslkit.methods.base import DataFacts
    from sslkit.recipe.sections import TaughtSection
    from stages.inputs.teacher import open_teacher

    section, more = recipe.method, {}
    teacher = open_teacher(section, device) if isinstance(section, TaughtSection) else None
    if teacher is not None:
        more["teacher"] = teacher.frozen
    images = open_split(run.data, "train")
    labelled = bool((images.labels >= 0).any())
    facts = DataFacts(samples=len(images), classes=len(images.classes) if labelled else 0)
    torch.manual_seed(recipe.train.seed)  # the initial weights; everything else has its own key
    kind: type[Method] = registry.load("sslkit.methods", recipe.method.name)
    method: Method = kind(recipe, facts, **more).to(device)
    if recipe.train.checkpoint_blocks and not recompute_blocks(method):
        method.remarks.append(f"train.checkpoint_blocks does nothing: {recipe.encoder.arch} has no transformer blocks")
    encoder, _ = method.exported()
    patch = encoder.patch_size if encoder.vit else 1
    channels = encoder.spec.in_channels
    views = ViewMaker(recipe.views, recipe.encoder.image_size, patch, recipe.train.seed, channels)
    return OpenMethod(method, views, images, device, teacher)


def suited(run: Run, recipe: Recipe, weights: str | None = None) -> Recipe:
    """The recipe for a run's data; of other channels than RGB, mean and std are those that ``prepare`` measured.

    Args:
        run: whose data it learns from.
        recipe: resolved, and completed by the weights if there are any.
        weights: that training starts from, as the command line names them.

    Raises:
        UsageError: the images have other channels than the recipe's encoder takes.
    """
    from sslkit.data.pixels.rules import RGB, STANDARD, counted
    from sslkit.data.shard_index import channels_in

    manifest = run.prepared()
    have, wanted = channels_in(manifest), recipe.encoder.channels or RGB
    if have != wanted:
        again = f", or prepare them again with --channels {wanted}" if {have, wanted} <= set(STANDARD) else ""
        advice = f"--set encoder.channels={have}"
        if weights is not None and wanted != RGB:  # those of RGB are adapted
            advice = f"name weights of {have} or {RGB} channels"
        who = f"the encoder of --weights {weights}" if weights is not None else "the recipe's encoder"
        raise UsageError(f"the images of {run.data} have {counted(have)}, {who} takes {wanted}: {advice}{again}")
    measured = {key: tuple(manifest[key]) for key in ("mean", "std") if key in manifest}
    missing = {key: value for key, value in measured.items() if getattr(recipe.views, key) is None}
    return recipe.model_copy(update={"views": recipe.views.model_copy(update=missing)}) if missing else recipe
