"""DINO: self-distillation with no labels (arXiv:2104.14294).

The student, seeing any crop, predicts how the teacher assigns another, global crop of the same image to K
prototypes. With P_t = softmax((g_t - c) / tau_t) and P_s = softmax(g_s / tau_s),

    L = mean over pairs (t, s), s != t, of  H(P_t(x_t), P_s(x_s)).

The centre c and the low temperature tau_t together keep both trivial solutions away.
"""

from sslkit.diagnostics import assignment_metrics
from sslkit.losses.prototype_cross_entropy import cross_view_cross_entropy as loss
from sslkit.objectives.base import PrototypeObjective, Scene, Term


class Dino(PrototypeObjective):
    """DINO's cross-entropy on CLS tokens."""

    reads_cls = True

    def forward(self, scene: Scene) -> Term:
        """The loss; the teacher's mean logits are what the centre moves to."""
        assert scene.teacher is not None
        logits = scene.teacher.heads[self.head].scores
        targets = self.targets(logits, scene.at)
        value = loss(scene.student.heads[self.head].scores, targets, self.settings.student_temperature)
        metrics = assignment_metrics(targets.flatten(0, 1), value.detach(), self.center)
        return self.term(value, metrics, logits.mean((0, 1)), targets)
