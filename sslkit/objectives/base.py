"""What an objective sees and what it returns.

A loss is a pure function of what the branches made of the views. State (a centre) belongs to the objective and
moves in ``after_step``, from statistics that the loss returned, averaged over micro-batches and processes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from sslkit.diagnostics import assignment_metrics, entropy
from sslkit.errors import UsageError
from sslkit.heads.base import Head, HeadOutput
from sslkit.losses.centering import moved_center, sharpen, sinkhorn, steered
from sslkit.losses.prototype_cross_entropy import hidden_cross_entropy
from sslkit.masks.base import Masks
from sslkit.recipe.sections import HeadSection, ObjectiveSection
from sslkit.schedules import Duration, Moment, linear


@dataclass(frozen=True)
class PatchOutput:
    """What a head made of the hidden tokens of the global crops."""

    logits: Tensor  # (M, K) float32, in the order of ``Masks.index``
    mean_logits: Tensor | None = None  # (K,) over ALL tokens of all global crops; the teacher's only


@dataclass(frozen=True)
class BranchOutput:
    """What the student or the teacher made of its views; the global crops come first."""

    cls: Tensor  # (V, B, D)
    patches: Tensor | None = None  # (G, B, N, D) of the global crops; None unless an objective reads them, of a ViT
    attention: Tensor | None = None  # (G, B, H, N) of the global crops, when some objective or mask reads it
    heads: Mapping[str, HeadOutput] = field(default_factory=dict)  # CLS through each head, by name; (V, B, ...)
    hidden: Mapping[str, PatchOutput] = field(default_factory=dict)  # hidden patch tokens through each head, by name
    modules: Mapping[str, Head] = field(default_factory=dict)  # the heads, for objectives that pool tokens themselves


def in_float32(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which a loss's own matrix products, on the device of ``x``, are not rounded to bf16."""
    return torch.autocast(x.device.type, enabled=False)


def over_patches(attention: Tensor) -> Tensor:
    """(..., N) attention from CLS -> float32, each row a distribution over the patches alone.

    What went to CLS and registers is left out: how much that is differs between the branches and says nothing about
    where in the image a head looks.
    """
    attention = attention.float()
    return attention / attention.sum(-1, keepdim=True).clamp_min(1e-20)


def over_peak(row: Tensor) -> Tensor:
    """(..., N) attention relative to the row's largest, which becomes 1."""
    return row / row.amax(-1, keepdim=True).clamp_min(1e-20)


@dataclass(frozen=True)
class Scene:
    """Everything that an objective may use."""

    student: BranchOutput  # its global crops are the masked ones
    teacher: BranchOutput | None  # of the unmasked global crops, without gradient; None without a teacher in the recipe
    masks: Masks | None  # of the global crops, view by view; None when the recipe has no mask
    at: Moment
    global_views: int = 2  # G, how many of the views are global crops


@dataclass(frozen=True)
class Term:
    """What an objective returns."""

    loss: Tensor  # 0-dim with gradient, without the recipe's weight
    metrics: dict[str, Tensor] = field(default_factory=dict)  # 0-dim without gradient, to be logged
    # What ``after_step`` needs; means over the batch, so that averaging them over equal parts is exact.
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """One term of the loss.

    Its attributes tell the method what to compute; the settings of an objective may override those of its class.
    """

    reads_cls: bool = False  # the head is applied to the CLS tokens of all views
    reads_scores: bool = False  # the head's prototypes are used, not only its embedding
    reads_hidden: bool = False  # the head is applied to hidden patch tokens; requires a mask and a ViT
    reads_patches: bool = False  # patch tokens of the global crops are used; requires a ViT
    reads_attention: bool = False  # both branches' CLS attention is computed; requires a ViT
    reads_teacher_attention: bool = False  # only the teacher's is
    needs_teacher: bool = False  # the recipe must have a teacher
    couples_batch: bool = False  # a batch's loss is no mean over its images, so gradient accumulation is refused

    class Config(ObjectiveSection):
        """Keys of the objective's section in a recipe."""

    def __init__(self, config: ObjectiveSection, head: HeadSection | None):
        """``head`` is the section of the head that ``config.head`` names."""
        super().__init__()
        self.head = config.head or ""

    def prototypes_of(self, head: HeadSection | None) -> int:
        """K of the objective's head; ``UsageError`` if it has no prototypes."""
        if head is None or head.prototypes is None:
            raise UsageError(f"{type(self).__name__} needs a head with prototypes, and heads.{self.head} has none")
        return head.prototypes

    @abstractmethod
    def forward(self, scene: Scene) -> Term:
        """The loss of one (micro-)batch."""

    def after_step(self, statistics: Mapping[str, Tensor]) -> None:
        """Move the objective's state, once after each optimizer step."""


class PrototypeObjective(Objective):
    """An objective with the teacher's centred and sharpened prototypes as targets (arXiv:2104.14294, section 3.1).

    ``centering: mean`` subtracts a moving average, ``sinkhorn`` spreads the batch evenly over the prototypes instead
    (arXiv:2006.09882), ``none`` does neither. With ``target_entropy`` the temperature sets itself.

    Raises:
        UsageError: the head has no prototypes.
    """

    reads_scores = True
    needs_teacher = True

    class Config(Objective.Config):
        """Temperatures and centring."""

        student_temperature: float = Field(default=0.1, gt=0)
        teacher_temperature: tuple[PositiveFloat, PositiveFloat] = (0.04, 0.04)  # start, and after the warm-up
        temperature_warmup_epochs: Duration = 0.0
        # Share of ln K that the targets' mean entropy is steered to, from the first of ``teacher_temperature`` on.
        target_entropy: float | None = Field(default=None, gt=0, lt=1)
        centering: Literal["mean", "sinkhorn", "none"] = "mean"
        center_momentum: float = Field(default=0.9, ge=0, le=1)

    center: Tensor
    temperature: Tensor

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.settings = config
        self.couples_batch = config.centering == "sinkhorn"
        self.register_buffer("center", torch.zeros(self.prototypes_of(head)))
        if config.target_entropy is not None:
            self.register_buffer("temperature", torch.tensor(config.teacher_temperature[0]))

    def targets(self, logits: Tensor, at: Moment) -> Tensor:
        """(..., M, K) logits of the teacher -> the same shape, probabilities at the temperature of the moment."""
        c = self.settings
        given = linear(*c.teacher_temperature, c.temperature_warmup_epochs, at)
        temperature = given if c.target_entropy is None else self.temperature
        if c.centering == "sinkhorn":
            return sinkhorn(logits, temperature)
        return sharpen(logits, self.center, temperature)

    def term(
        self,
        loss: Tensor,
        metrics: dict[str, Tensor],
        mean_logits: Tensor,
        targets: Tensor,
        shares: Tensor | None = None,
    ) -> Term:
        """The term, with the statistics from which the centre and a temperature that sets itself follow.

        Args:
            loss: of ``Term``.
            metrics: of ``Term``.
            mean_logits: (K,) the teacher's, mean over the batch.
            targets: (..., K).
            shares: (...) how much each of the targets counts in the mean over the batch; None: all alike.
        """
        statistics = {"mean_logits": mean_logits}
        if self.settings.target_entropy is not None:
            entropies = entropy(targets)
            shares = torch.full_like(entropies, 1 / entropies.numel()) if shares is None else shares
            statistics |= {"entropy": (entropies * shares).sum(), "counted": shares.sum()}
            metrics = {**metrics, "temperature": self.temperature.clone()}
        return Term(loss, metrics, statistics)

    def after_step(self, statistics: Mapping[str, Tensor]) -> None:
        """Move the centre towards ``mean_logits`` of the batch, and the temperature towards the entropy asked for."""
        c = self.settings
        if c.centering == "mean":
            self.center.copy_(moved_center(self.center, statistics["mean_logits"], c.center_momentum))
        if c.target_entropy is not None:
            most = math.log(len(self.center))
            wanted = c.target_entropy * most * statistics["counted"]
            moved = steered(self.temperature, statistics["entropy"], wanted, most)
            self.temperature.copy_(moved.clamp(max=c.student_temperature))


class HiddenObjective(PrototypeObjective):
    """Cross-entropy between the branches' prototypes at the same hidden token (arXiv:2111.07832).

    The subclass decides how much each token counts. The centre is that of ALL patches: the hidden ones alone would
    bias it.
    """

    reads_hidden = True

    @abstractmethod
    def token_weights(self, scene: Scene) -> Tensor:
        """(M,) without gradient, in the order of ``Masks.index``; they sum to 1 over each masked crop."""

    def forward(self, scene: Scene) -> Term:
        """The mean over crops; a crop without a mask counts 0."""
        assert scene.teacher is not None and scene.masks is not None
        student, teacher = scene.student.hidden[self.head].logits, scene.teacher.hidden[self.head]
        assert teacher.mean_logits is not None
        targets, weights = self.targets(teacher.logits, scene.at), self.token_weights(scene)
        crops = len(scene.masks.counts)
        value = hidden_cross_entropy(student, targets, weights, crops, self.settings.student_temperature)
        metrics = {"center_norm": self.center.norm()}
        if masked := int((scene.masks.counts > 0).sum()):
            # A crop without a mask adds 0 to the loss; the entropies are those of the crops that have one.
            metrics = assignment_metrics(targets, value.detach() * crops / masked, self.center, weights)
        return self.term(value, metrics, teacher.mean_logits, targets, weights / crops)


class EmbeddingObjective(Objective):
    """An objective that compares the embeddings of two views of each image.

    ``against`` chooses the other view's embedding: the teacher's, the student's own with gradient, or the student's own
    without (``stopped``). ``views: all`` adds local crops; they are compared with global ones only.

    Raises:
        UsageError: no head is named, or there is one view only.
    """

    reads_cls = True

    class Config(Objective.Config):
        """Which pairs of views are compared."""

        head: str | None = "projector"
        against: Literal["teacher", "student", "stopped"] = "student"
        views: Literal["global", "all"] = "global"

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        if head is None:
            raise UsageError(f"{type(self).__name__} needs a head: add `heads: {{projector: {{kind: projector}}}}`")
        self.pairing = config
        self.needs_teacher = config.against == "teacher"

    @abstractmethod
    def compare(self, online: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one pair of views, and metrics.

        Both are (B, E) float32 embeddings of views of the same images; ``online`` is the student's, with gradient.
        """

    def forward(self, scene: Scene) -> Term:
        """The mean over pairs."""
        with in_float32(scene.student.cls):
            answers = [self.compare(online.float(), target.float()) for online, target in self.pairs(scene)]
        if not answers:
            raise UsageError(f"{type(self).__name__} compares two views: views.global.count must be at least 2")
        metrics = {key: torch.stack([m[key].detach() for _, m in answers]).mean() for key in answers[0][1]}
        return Term(torch.stack([loss for loss, _ in answers]).mean(), metrics)

    def pairs(self, scene: Scene) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs (online, target) of different views, (B, E) each; with ``student`` every pair comes once."""
        students = scene.student.heads[self.head].embedding
        against = self.pairing.against
        branch = scene.teacher if against == "teacher" else scene.student
        assert branch is not None
        targets = branch.heads[self.head].embedding[: scene.global_views]
        if against != "student":
            targets = targets.detach()
        views = len(students) if self.pairing.views == "all" else scene.global_views
        for t in range(len(targets)):
            for s in range(t + 1 if against == "student" else 0, views):
                if s != t:
                    yield students[s], targets[t]
