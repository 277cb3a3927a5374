"""DINO's loss on what the teacher attends to, and away from what it does not.

The teacher's attention splits each global crop in two, in place of an annotator: with a_i its last block's attention
from CLS to patch i, mean over heads, renormalised over the patches, and b_i proportional to 1 - a_i / max(a),

    foreground = sum_i a_i x_i,   background = sum_i b_i x_i

of a branch's patch tokens x. With P_t and P_s as in DINO (arXiv:2104.14294), of foregrounds instead of CLS, and e the
head's embedding,

    L = mean over s != t of  H(P_t(foreground_t), P_s(foreground_s))
      + push * mean over s != t of  max(0, cos(e_s(foreground_s), e_t(background_t)) - margin).

Both branches are pooled by the teacher's row of the unmasked crop, so the student must fill in what is hidden from it.
No gradient flows through the attention.
"""

from itertools import permutations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.diagnostics import assignment_metrics
from sslkit.errors import UsageError
from sslkit.losses.prototype_cross_entropy import cross_view_cross_entropy
from sslkit.objectives.base import PrototypeObjective, Scene, Term, over_patches, over_peak
from sslkit.recipe.sections import HeadSection


def complement(row: Tensor) -> Tensor:
    """(..., N) attention -> (..., N) weights of the background, which sum to 1; even where attention is even."""
    return over_patches(1 - over_peak(row) + 1e-6)


def pooled(patches: Tensor, weights: Tensor) -> Tensor:
    """(..., N, D), (..., N) -> (..., D): sum_i w_i x_i."""
    return (weights[..., None, :].to(patches.dtype) @ patches).squeeze(-2)


def push(foreground: Tensor, background: Tensor, margin: float) -> Tensor:
    """How much the cosine of foregrounds with other views' backgrounds exceeds ``margin``; mean over pairs, 0-dim.

    Both are (G, B, E): the student's foregrounds and the teacher's backgrounds.
    """
    pairs = permutations(range(len(foreground)), 2)
    cosines = [F.cosine_similarity(foreground[s].float(), background[t].float(), dim=-1) for s, t in pairs]
    return (torch.stack(cosines) - margin).relu().mean()


class AttentionPool(PrototypeObjective):
    """Cross-entropy of pooled foregrounds, and the push away from backgrounds."""

    reads_patches = True
    reads_teacher_attention = True

    class Config(PrototypeObjective.Config):
        """The push."""

        push: float = Field(default=0.5, ge=0)  # its weight; 0 leaves the cross-entropy alone
        margin: float = Field(default=0.0, ge=-1, le=1)  # the cosine up to which nothing is pushed

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.pushing = config

    def forward(self, scene: Scene) -> Term:
        """The loss; the push is also a separate metric.

        Raises:
            UsageError: there is one global crop, and so no pair.
        """
        if scene.global_views < 2:
            raise UsageError("attention_pool compares different global crops: views.global.count must be at least 2")
        assert scene.teacher is not None and scene.teacher.attention is not None
        ours, theirs = scene.student.patches, scene.teacher.patches
        assert ours is not None and theirs is not None
        row = over_patches(scene.teacher.attention.detach().mean(-2))
        student = scene.student.modules[self.head](pooled(ours, row))
        teacher = scene.teacher.modules[self.head](pooled(theirs, row))
        targets = self.targets(teacher.scores, scene.at)
        value = cross_view_cross_entropy(student.scores, targets, self.settings.student_temperature)
        metrics = assignment_metrics(targets.flatten(0, 1), value.detach(), self.center)
        if self.pushing.push:
            background = scene.teacher.modules[self.head](pooled(theirs, complement(row))).embedding
            pushed = push(student.embedding, background, self.pushing.margin)
            metrics["push"] = pushed.detach()
            value = value + self.pushing.push * pushed
        return self.term(value, metrics, teacher.scores.mean((0, 1)), targets)
