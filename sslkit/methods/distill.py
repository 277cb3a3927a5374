"""Distillation: a student matches the features of a frozen teacher of any size or kind (FitNets, arXiv:1412.6550).

Both see the same crop (arXiv:2106.05237). With t and T_i the teacher's CLS and patch tokens, s and S_i the student's,
and P_c and P_p projections to the teacher's width,

    L = w_c d(P_c(s), z(t)) + w_p mean_i d(P_p(S_i), z(T_i)),    d(p, z) = 1 - cos(p, z) + smooth_l1(p, z),

cosine and smooth L1 together as in UNIC (arXiv:2408.05088). z is a LayerNorm without weights (arXiv:2205.14141), then
every dimension minus its mean over its deviation, both moving averages (UNIC's): what all images have in common would
else be most of what is matched. The targets are fixed, so nothing can collapse. Where the two grids of patches differ,
both are resampled to the coarser one. What has no CLS token stands in with its pooled feature; a model without patch
tokens, such as a CNN, is matched by that alone.

The teacher is no part of the method's state: no checkpoint holds it, neither optimizer nor data parallelism sees it.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit.data.batch import Batch
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.errors import UsageError
from sslkit.heads.base import mlp
from sslkit.methods.base import DataFacts, Losses, Method, Preview, augmented, drop_scales, feature_std, takes_no
from sslkit.recipe.schema import Recipe
from sslkit.recipe.sections import TaughtSection
from sslkit.schedules import Moment

MOMENTUM = 0.99  # of the mean and the mean square of the targets
EPSILON = 1e-5
Grid = tuple[int, int]


class Distillation(Method):
    """A student, its projections, and a teacher that stays as it is."""

    class Config(TaughtSection, Method.Config):
        """Keys of ``method: {name: distill, ...}``."""

        cls: float = Field(default=1.0, ge=0)  # weight of the CLS tokens' term
        patches: float = Field(default=1.0, ge=0)  # weight of the patch tokens' term
        layers: int = Field(default=1, gt=0, le=100)  # of the projections
        hidden: int = Field(default=2048, gt=0, le=2**24)  # width between their layers

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None, teacher: FrozenEncoder | None = None):
        super().__init__(recipe, facts)
        takes_no(recipe, "mask", "teacher", "heads", "objectives", "views.local")
        assert isinstance(recipe.method, self.Config)
        if teacher is None:
            raise UsageError("distill needs a teacher: --teacher FILE, RUN or timm:NAME")
        self.config, self.teacher = recipe.method, teacher
        teacher.encoder.requires_grad_(False).eval()
        self.student = Encoder.from_section(recipe.encoder)
        have, wanted = (encoder.spec.in_channels for encoder in (self.student, teacher.encoder))
        if have != wanted:
            raise UsageError(f"the teacher takes images of {wanted} channels, the student {have}: both see the same")
        if self.student.vit:
            self.student.mask_token.requires_grad_(False)
        self.weights = {"cls": self.config.cls, "patches": self.config.patches}
        for role, encoder in (("teacher", teacher.encoder), ("student", self.student)):
            if self.weights["patches"] and not encoder.vit:
                self.weights["patches"] = 0.0
                self.remarks.append(f"{role} {encoder.spec.arch} has no patch tokens: its pooled feature is matched")
        self.weights = {name: weight for name, weight in self.weights.items() if weight}
        if not self.weights:
            raise UsageError("nothing is matched: raise method.cls or, between ViTs, method.patches")
        width, c = teacher.encoder.width, self.config
        self.projections = nn.ModuleDict(
            {name: mlp(self.student.width, c.hidden, width, c.layers) for name in self.weights}
        )

        for name in self.weights:
            self.register_buffer(f"{name}_moments", torch.zeros(2, width))  # mean and mean square, see ``moved``
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        views = augmented(batch)[0]
        images = views.flatten(0, 1)
        drop = drop_scales(self.student, batch, len(views), at, self.recipe.train.seed)
        student = self.student(images, drop=drop)
        with torch.no_grad():
            seen = as_input(images, self.teacher, batch.mean, batch.std)
            teacher = self.teacher.encoder(seen)
        pairs = {"cls": (student.cls, teacher.cls)}
        if "patches" in self.weights:
            grids = self.student.grid(*images.shape[-2:]), self.teacher.encoder.grid(*seen.shape[-2:])
            pairs["patches"] = on_one_grid(student.patches, teacher.patches, *grids)
        terms, statistics, metrics = {}, {}, {"feature_std": feature_std(student.cls)}
        for name, weight in self.weights.items():
            online, target = pairs[name]
            wanted = F.layer_norm(target.float(), target.shape[-1:])
            statistics[name] = moments(wanted)
            wanted = standardised(wanted, self.get_buffer(f"{name}_moments"), self.get_buffer("seen"))
            value, cosine = loss(self.projections[name](online), wanted)
            terms[name] = weight * value
            metrics |= {f"{name}/loss": value.detach(), f"{name}/cosine": cosine.detach()}
        total = torch.stack(list(terms.values())).sum()
        return Losses(total, {"loss": total.detach(), **metrics}, statistics, terms)

    @torch.no_grad()
    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the targets' moments."""
        for name, found in statistics.items():
            self.get_buffer(f"{name}_moments").lerp_(found, 1 - MOMENTUM)
        self.get_buffer("seen").lerp_(torch.ones_like(self.get_buffer("seen")), 1 - MOMENTUM)

    def frozen_modules(self) -> Iterable[nn.Module]:
        """The teacher."""
        return [self.teacher.encoder]

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """The crops, which both models see."""
        return Preview({"global": augmented(batch)[0]})

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The student."""
        return self.student, "student"


# Pure functions.


def loss(prediction: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """(..., D), (..., D) normalised targets -> the mean of d over all tokens, and the mean cosine; float32."""
    prediction = prediction.float()
    cosine = F.cosine_similarity(prediction, wanted, dim=-1).mean()
    return 1 - cosine + F.smooth_l1_loss(prediction, wanted), cosine


def moments(targets: Tensor) -> Tensor:
    """(..., D) -> (2, D): mean and mean square of every dimension over all tokens."""
    tokens = targets.flatten(0, -2)
    return torch.stack([tokens.mean(0), tokens.square().mean(0)])


def standardised(targets: Tensor, moving: Tensor, seen: Tensor) -> Tensor:
    """(..., D) targets, every dimension minus its mean, over its deviation.

    Args:
        targets: of this batch.
        moving: (2, D) moving averages of ``moments`` that began at 0.
        seen: the moving average of 1 that began at 0, by which they are too small; 0: nothing is known yet.
    """
    mean, square = moving / seen.clamp_min(EPSILON)
    ready = (targets - mean) * (square - mean.square()).clamp_min(0).add(EPSILON).rsqrt()
    return torch.where(seen > 0, ready, targets)


def on_one_grid(student: Tensor, teacher: Tensor, own: Grid, theirs: Grid) -> tuple[Tensor, Tensor]:
    """Patch tokens (B, N, D) and (B, M, E) on the rows and columns of whichever grid has fewer of each."""
    grid = min(own[0], theirs[0]), min(own[1], theirs[1])
    return resampled(student, own, grid), resampled(teacher, theirs, grid)


def resampled(tokens: Tensor, grid: Grid, to: Grid) -> Tensor:
    """(B, N, D) tokens of a grid, row by row -> (B, N', D) of another, bilinear and antialiased."""
    if grid == to:
        return tokens
    planes = tokens.float().transpose(1, 2).unflatten(2, grid)
    return F.interpolate(planes, size=to, mode="bilinear", antialias=True).flatten(2).transpose(1, 2)


def as_input(images: Tensor, teacher: FrozenEncoder, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(B, C, S, S), normalised by mean and std -> the teacher's own normalisation and size (bicubic)."""
    if (teacher.mean, teacher.std) != (mean, std):
        own_mean, own_std, their_mean, their_std = (
            torch.tensor(values).to(images.device, non_blocking=True)[:, None, None]
            for values in (mean, std, teacher.mean, teacher.std)
        )
        images = (images * own_std + own_mean - their_mean) / their_std
    if images.shape[-1] == teacher.size:
        return images
    return F.interpolate(images, size=(teacher.size, teacher.size), mode="bicubic", antialias=True)
