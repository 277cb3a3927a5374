"""Soft assignment of tokens to prototypes, and what tells whether it has collapsed (arXiv:2104.14294, section 5.3).

With p the teacher's and q the student's distribution over K prototypes, H(p, q) = h(p) + KL(p || q). KL -> 0 is
collapse: h -> 0 when one prototype takes all (no centring), h -> ln K when all are alike (no sharpening).
"""

import math

import torch
from torch import Tensor

from sslkit.reduction import log_sum_exp


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
def assignment_metrics(targets: Tensor, cross_entropies: Tensor, center: Tensor | None = None) -> dict[str, Tensor]:
    """What the monitor needs; every value is a 0-dim tensor on the device, in nats where it is an entropy.

    Args:
        targets: (M, K), the teacher's distributions.
        cross_entropies: mean H(p, q), 0-dim.
        center: (K,); None where there is none, and its norm is not logged.
    """
    entropy = -(targets * targets.clamp_min(1e-12).log()).sum(-1).mean()
    marginal = targets.mean(0)
    centring = {} if center is None else {"center_norm": center.norm()}
    return {
        "teacher_entropy": entropy,
        "kl": cross_entropies - entropy,
        "marginal_entropy": -(marginal * marginal.clamp_min(1e-12).log()).sum(),
        "prototypes_in_use": targets.argmax(-1).bincount(minlength=targets.shape[-1]).gt(0).float().sum(),
        **centring,
        "ln_k": entropy.new_full((), math.log(targets.shape[-1])),
    }
