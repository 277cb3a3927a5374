"""Soft assignment of tokens to prototypes, and what tells whether it has collapsed (arXiv:2104.14294, section 5.3).

With p the teacher's and q the student's distribution over K prototypes, H(p, q) = h(p) + KL(p || q). KL -> 0 is
collapse: h -> 0 when one prototype takes all (no centring), h -> ln K when all are alike (no sharpening).
"""

import math

import torch
from torch import Tensor

from sslkit.distributed.sums import log_sum_exp
from sslkit.errors import UsageError


def sharpen(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """The teacher's targets: softmax((logits - center) / temperature) in float32.

    Args:
        logits: (..., K).
        center: (K,), what is subtracted so that no prototype dominates.
        temperature: below the student's, so that the targets are not uniform.
    """
    return ((logits.float() - center) / temperature).softmax(-1)


def cross_entropy(targets: Tensor, log_probabilities: Tensor) -> Tensor:
    """(..., K), (..., K) -> (...): -sum_k p_k log q_k."""
    return -(targets * log_probabilities).sum(-1)


def cross_view_cross_entropy(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over pairs of different views.

    Args:
        student: (V, B, K) logits; the first G views are those that the teacher saw too.
        targets: (G, B, K) probabilities.
        temperature: the student's.

    Raises:
        UsageError: there is but one view.
    """
    log_q = (student.float() / temperature).log_softmax(-1)
    views, teacher_views = len(student), len(targets)
    if views < 2:
        raise UsageError("different views are compared, and there is one: set views.global.count to 2 or more")
    # The sum over all pairs factorises; the pairs of a view with itself are taken off again.
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


def moved_center(center: Tensor, batch_mean: Tensor, momentum: float) -> Tensor:
    """The centre after one step: a moving average of the teacher's mean logits."""
    return center * momentum + batch_mean * (1 - momentum)


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally: Sinkhorn-Knopp (arXiv:2006.09882, section 3.1 and appendix A).

    Rows and columns of exp(logits / temperature) are normalised in turn, so that over the batch of all processes each
    prototype gets the same mass and each token a distribution.

    Args:
        logits: (..., B, K); every leading index (a view) is balanced by itself.
        temperature: the papers' epsilon.
        iterations: the papers use 3.

    Returns:
        (..., B, K) float32 without gradient, rows sum to 1.
    """
    # Logarithms: a prototype far from every token, or a token far from every prototype, would vanish in float32.
    log_q = logits.float() / temperature
    for _ in range(iterations):
        log_q = log_q - log_sum_exp(log_q)
        log_q = log_q.log_softmax(-1)
    return log_q.exp()


@torch.no_grad()
def assignment_metrics(
    targets: Tensor, cross_entropies: Tensor, center: Tensor | None = None, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """What the monitor needs; every value is a 0-dim tensor on the device, in nats where it is an entropy.

    Args:
        targets: (M, K), the teacher's distributions.
        cross_entropies: mean H(p, q), 0-dim.
        center: (K,); None where there is none, and its norm is not logged.
        weights: (M,) how much each distribution counts in ``cross_entropies``; None: all alike.
    """
    entropies = -(targets * targets.clamp_min(1e-12).log()).sum(-1)
    entropy = entropies.mean() if weights is None else (entropies * weights).sum() / weights.sum()
    marginal = targets.mean(0)
    centring = {} if center is None else {"center_norm": center.norm()}
    return {
        "teacher_entropy": entropy,
        "kl": cross_entropies - entropy,
        "marginal_entropy": -(marginal * marginal.clamp_min(1e-12).log()).sum(),
        "prototypes_in_use": targets.new_zeros(targets.shape[-1]).index_fill_(0, targets.argmax(-1), 1.0).sum(),
        **centring,
        "ln_k": entropy.new_full((), math.log(targets.shape[-1])),
    }
