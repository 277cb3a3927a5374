"""iBOT's masked image modelling (arXiv:2111.07832), also the patch loss of AttMask (arXiv:2203.12719).

The student sees a global crop with some patches replaced by a mask token and predicts, for each of them, the
prototypes that the teacher assigns to the same patch of the unmasked crop:

    L = mean over crops of  (1 / |M|) sum_{i in M} H(P_t(x)_i, P_s(x_masked)_i),

a crop without a mask counting 0. The centre is that of ALL patches: the hidden ones alone would bias it.
"""

from torch import Tensor

from sslkit.objectives.base import PrototypeObjective, Scene, Term
from sslkit.prototypes import assignment_metrics, cross_entropy


def loss(student: Tensor, targets: Tensor, token_weights: Tensor, crops: int, temperature: float) -> Tensor:
    """Cross-entropy of hidden tokens, averaged within each crop, then over all crops.

    Args:
        student: (M, K) logits of the hidden tokens of all crops.
        targets: (M, K) the teacher's probabilities of the same tokens.
        token_weights: (M,) 1 / (hidden tokens of the token's crop).
        crops: C, the number of crops, unmasked ones included.
        temperature: the student's.
    """
    log_q = (student.float() / temperature).log_softmax(-1)
    return (cross_entropy(targets, log_q) * token_weights).sum() / crops


class Ibot(PrototypeObjective):
    """iBOT's cross-entropy on hidden patch tokens."""

    reads_hidden = True

    def forward(self, scene: Scene) -> Term:
        """See the module."""
        c = self.settings
        assert scene.teacher is not None and scene.masks is not None
        student, teacher = scene.student.hidden[self.head].logits, scene.teacher.hidden[self.head]
        assert teacher.mean_logits is not None
        targets = self.targets(teacher.logits, scene.at)
        crops = len(scene.masks.counts)
        value = loss(student, targets, scene.masks.token_weights, crops, c.student_temperature)
        metrics = {"center_norm": self.center.norm()}
        if masked := int((scene.masks.counts > 0).sum()):
            # A crop without a mask adds 0 to the loss; the entropies are those of the crops that have one.
            metrics = assignment_metrics(targets, value.detach() * crops / masked, self.center)
        return Term(value, metrics, statistics={"mean_logits": teacher.mean_logits})
