"""Attention as a target: the student attends, through its mask, where the teacher attends without one.

Distilling attention from one vision transformer to another is arXiv:2210.00944; here the teacher is the student's
moving average, as in DINO, and the student's crop is the masked one. With a_t and a_s the last block's attention
from CLS to the patches of the same global crop, each renormalised over the patches,

    L = mean over crops of  H(a_t^power / sum(a_t^power), a_s).

It teaches where to look, not what is there. Even rows, or rows all on one patch, also satisfy it, so use it next to
another objective. No gradient reaches the last block's values: only its queries and keys, and what is below.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from sslkit.losses.prototype_cross_entropy import cross_entropy
from sslkit.objectives.base import Objective, Scene, Term, over_patches, over_peak
from sslkit.recipe.sections import HeadSection


def rows(attention: Tensor, heads: Literal["each", "mean"]) -> Tensor:
    """(..., H, N) -> (..., H, N), or (..., 1, N) of the mean over heads; rows sum to 1."""
    return over_patches(attention.mean(-2, keepdim=True) if heads == "mean" else attention)


def sharpened(row: Tensor, power: float) -> Tensor:
    """(..., N) distributions to a power, renormalised; 1 leaves them, above 1 is a temperature of 1 / power."""
    # Relative to the largest, so that no power of many small numbers underflows.
    return row if power == 1 else over_patches(over_peak(row).pow(power))


def logarithm(row: Tensor) -> Tensor:
    """Natural logarithm of probabilities that may be 0."""
    return row.clamp_min(1e-12).log()


class AttentionDistill(Objective):
    """Cross-entropy between the branches' attention rows."""

    reads_attention = True
    needs_teacher = True

    class Config(Objective.Config):
        """Which rows are compared."""

        head: str | None = None
        heads: Literal["each", "mean"] = "mean"  # head by head, or the means over heads, as AttMask reads them
        power: float = Field(default=1.0, gt=0)  # above 1 sharpens the teacher's row

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.settings = config

    def forward(self, scene: Scene) -> Term:
        """The loss; metrics are in nats, and entropies are ln N where attention is even."""
        assert scene.teacher is not None
        theirs, ours = scene.teacher.attention, scene.student.attention
        assert theirs is not None and ours is not None
        targets = sharpened(rows(theirs.detach(), self.settings.heads), self.settings.power)
        student = rows(ours, self.settings.heads)
        value = cross_entropy(targets, logarithm(student)).mean()
        entropy = cross_entropy(targets, logarithm(targets)).mean()
        seen = student.detach()
        metrics = {
            "kl": value.detach() - entropy,
            "teacher_attention_entropy": entropy,
            "student_attention_entropy": cross_entropy(seen, logarithm(seen)).mean(),
        }
        return Term(value, metrics)
