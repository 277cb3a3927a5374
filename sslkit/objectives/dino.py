"""DINO: self-distillation with no labels (arXiv:2104.14294).

The student, seeing any crop, predicts how the teacher assigns another, global crop of the same image to K
prototypes. With P_t = softmax((g_t - c) / tau_t) and P_s = softmax(g_s / tau_s),

    L = mean over pairs (t, s), s != t, of  H(P_t(x_t), P_s(x_s)).

The centre c and the low temperature tau_t together keep both trivial solutions away.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from sslkit.objectives.base import Objective, Scene, Term
from sslkit.prototypes import assignment_metrics, moved_center, sharpen
from sslkit.schedules import Duration, linear


def loss(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over pairs of different views.

    Args:
        student: (V, B, K) logits; the first G views are those that the teacher saw too.
        targets: (G, B, K) probabilities.
        temperature: the student's.
    """
    log_q = (student.float() / temperature).log_softmax(-1)
    views, teacher_views = len(student), len(targets)
    # The sum over all pairs factorises; the pairs of a view with itself are taken off again.
    every = (targets.sum(0) * log_q.sum(0)).sum(-1)
    same = (targets * log_q[:teacher_views]).sum((0, -1))
    pairs = teacher_views * views - min(teacher_views, views)
    return (same - every).mean() / pairs


class Dino(Objective):
    """DINO's cross-entropy on CLS tokens."""

    reads_cls = True
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

    def forward(self, scene: Scene) -> Term:
        """See the module."""
        c = self.settings
        assert scene.teacher is not None
        logits = scene.teacher.heads[c.head].logits
        temperature = linear(*c.teacher_temperature, c.temperature_warmup_epochs, scene.at)
        targets = sharpen(logits, self.center, temperature)
        value = loss(scene.student.heads[c.head].logits, targets, c.student_temperature)
        return Term(
            value,
            metrics=assignment_metrics(targets.flatten(0, 1), value.detach(), self.center),
            statistics={"mean_logits": logits.mean((0, 1))},
        )

    def after_step(self, statistics: Mapping[str, Tensor]) -> None:
        """Move the centre towards the batch's mean logits."""
        self.center.copy_(moved_center(self.center, statistics["mean_logits"], self.settings.center_momentum))
