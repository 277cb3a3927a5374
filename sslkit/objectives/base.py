"""What an objective sees and what it returns.

A loss is a pure function of what the branches made of the views. State (a centre) belongs to the objective and
moves in ``after_step``, from statistics that the loss returned, averaged over micro-batches and processes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from sslkit.masks.base import Masks
from sslkit.prototypes import moved_center, sharpen
from sslkit.recipe import Strict
from sslkit.schedules import Duration, Moment, linear


@dataclass(frozen=True)
class HeadOutput:
    """What a head made of the CLS tokens of all views of a branch.

    Attributes:
        embedding: (V, B, E), before the L2 normalisation.
        logits: (V, B, K) float32.
    """

    embedding: Tensor
    logits: Tensor


@dataclass(frozen=True)
class PatchOutput:
    """What a head made of the hidden tokens of the global crops.

    Attributes:
        logits: (M, K) float32, in the order of ``Masks.index``.
        mean_logits: (K,) over ALL tokens of all global crops; the teacher's only.
    """

    logits: Tensor
    mean_logits: Tensor | None = None


@dataclass(frozen=True)
class Branch:
    """The student or the teacher, after it has seen its views; the global crops come first.

    Attributes:
        cls: (V, B, D) CLS tokens.
        patches: (G, B, N, D) patch tokens of the global crops; None for an encoder that is no ViT.
        attention: (G, B, H, N) of the global crops, when some objective or mask reads it.
        heads: CLS through each head, by name.
        hidden: hidden patch tokens through each head, by name.
    """

    cls: Tensor
    patches: Tensor | None = None
    attention: Tensor | None = None
    heads: Mapping[str, HeadOutput] = field(default_factory=dict)
    hidden: Mapping[str, PatchOutput] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """All that an objective may look at.

    Attributes:
        student: its global crops are the masked ones.
        teacher: saw the unmasked global crops, without gradient; None when the recipe has no teacher.
        masks: of the global crops, view by view; None when the recipe has no mask.
        at: where the run stands.
    """

    student: Branch
    teacher: Branch | None
    masks: Masks | None
    at: Moment


@dataclass(frozen=True)
class Term:
    """One objective's answer.

    Attributes:
        loss: 0-dim with gradient, without the recipe's weight.
        metrics: 0-dim tensors without gradient, to be logged.
        statistics: what ``after_step`` needs; means over the batch, so that averaging them over equal parts is exact.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """One term of the loss.

    Class attributes tell the method what to compute:
        reads_cls: the head is applied to the CLS tokens of all views.
        reads_hidden: the head is applied to hidden patch tokens; needs a mask and a ViT.
        reads_attention: both branches' CLS attention is computed.
        needs_teacher: the recipe must have a teacher.
        couples_batch: the loss of a batch is no mean over its images, so gradient accumulation is refused.
    """

    reads_cls: ClassVar[bool] = False
    reads_hidden: ClassVar[bool] = False
    reads_attention: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    class Config(Strict):
        """Keys of the objective's section in a recipe."""

        weight: float = Field(default=1.0, ge=0)
        head: str = "prototypes"

    def __init__(self, config: Config, out: int):
        """``out`` is K, the width of the objective's head."""
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, scene: Scene) -> Term:
        """The loss of one (micro-)batch."""

    def after_step(self, statistics: Mapping[str, Tensor]) -> None:
        """Move the objective's state, once after each optimizer step."""


class PrototypeObjective(Objective):
    """An objective whose targets are the teacher's centred and sharpened prototypes (arXiv:2104.14294, section 3.1)."""

    needs_teacher = True

    class Config(Objective.Config):
        """Temperatures and the centre's momentum."""

        student_temperature: float = Field(default=0.1, gt=0)
        teacher_temperature: tuple[float, float] = (0.04, 0.04)  # start, and after the warm-up
        temperature_warmup_epochs: Duration = 0.0
        center_momentum: float = Field(default=0.9, ge=0, le=1)

    center: Tensor

    def __init__(self, config: Config, out: int):
        super().__init__(config, out)
        self.settings = config
        self.register_buffer("center", torch.zeros(out))

    def targets(self, logits: Tensor, at: Moment) -> Tensor:
        """(..., K) logits of the teacher -> (..., K) probabilities at the temperature of the moment."""
        c = self.settings
        temperature = linear(*c.teacher_temperature, c.temperature_warmup_epochs, at)
        return sharpen(logits, self.center, temperature)

    def after_step(self, statistics: Mapping[str, Tensor]) -> None:
        """Move the centre towards ``mean_logits`` of the batch."""
        self.center.copy_(moved_center(self.center, statistics["mean_logits"], self.settings.center_momentum))
