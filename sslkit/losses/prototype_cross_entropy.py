"""Cross-entropies between the teacher's and the student's distributions over K prototypes."""

from torch import Tensor

from sslkit.errors import UsageError


def cross_entropy(targets: Tensor, log_probabilities: Tensor) -> Tensor:
    """(..., K), (..., K) -> (...): -sum_k p_k log q_k."""
    return -(targets * log_probabilities).sum(-1)


def cross_view_cross_entropy(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over pairs of different views.

    Args:
        student: (V, B, K) logits; the teacher saw the first G views, too.
        targets: (G, B, K) probabilities.
        temperature: the student's.

    Raises:
        UsageError: there is only one view.
    """
    log_q = (student.float() / temperature).log_softmax(-1)
    views, teacher_views = len(student), len(targets)
    if views < 2:
        raise UsageError("different views are compared, but there is only one: set views.global.count to 2 or more")
    # The sum over all pairs factorises; the pairs of a view with itself are subtracted again.
    every = (targets.sum(0) * log_q.sum(0)).sum(-1)
    same = (targets * log_q[:teacher_views]).sum((0, -1))
    pairs = teacher_views * views - min(teacher_views, views)
    return (same - every).mean() / pairs


def hidden_cross_entropy(
    student: Tensor, targets: Tensor, token_weights: Tensor, crops: int, temperature: float
) -> Tensor:
    """Cross-entropy of hidden tokens, averaged within each crop, then over all crops.

    Args:
        student: (M, K) logits of the hidden tokens of all crops.
        targets: (M, K) the teacher's probabilities of the same tokens.
        token_weights: (M,) the token's share of its crop; 1 / (hidden tokens of the crop) where all count alike.
        crops: C, the number of crops, unmasked ones included.
        temperature: the student's.
    """
    log_q = (student.float() / temperature).log_softmax(-1)
    return (cross_entropy(targets, log_q) * token_weights).sum() / crops
