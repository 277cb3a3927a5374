"""What keeps targets over K prototypes from collapsing: a centre and a low temperature (DINO), or Sinkhorn (SwAV)."""

import torch
from torch import Tensor

from sslkit.distributed.sums import log_sum_exp


def sharpen(logits: Tensor, center: Tensor, temperature: float | Tensor) -> Tensor:
    """The teacher's targets: softmax((logits - center) / temperature) in float32, (..., K).

    The centre (K,) keeps any prototype from dominating; a temperature below the student's keeps targets from uniform.
    """
    return ((logits.float() - center) / temperature).softmax(-1)


def moved_center(center: Tensor, batch_mean: Tensor, momentum: float) -> Tensor:
    """The centre after one step: a moving average of the teacher's mean logits."""
    return center * momentum + batch_mean * (1 - momentum)


def steered(temperature: Tensor, entropy: Tensor, wanted: Tensor, most: float) -> Tensor:
    """The temperature after one step: higher where the targets' entropy is below the wanted one, lower where above.

    Its logarithm moves by a tenth of the difference as a share of ``most`` = ln K. That share changes by at most about
    ln K / 4 with the logarithm, so a step does not overshoot.

    Args:
        temperature: 0-dim.
        entropy: of the targets made with it, mean over the batch, in nats; 0-dim.
        wanted: 0-dim.
        most: nats.
    """
    return (temperature * ((wanted - entropy) / (10 * most)).exp()).clamp(min=1e-3)


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float | Tensor, iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally: Sinkhorn-Knopp (arXiv:2006.09882, section 3.1 and appendix A).

    Rows and columns of exp(logits / temperature) are normalised in turn, so that over the batch of all processes each
    prototype gets the same mass and each token a distribution.

    Args:
        logits: (..., B, K); every leading index (a view) is balanced by itself.
        temperature: the papers' epsilon.
        iterations: the papers use 3.
    """
    # Logarithms: a prototype far from every token, or a token far from every prototype, would vanish in float32.
    log_q = logits.float() / temperature
    for _ in range(iterations):
        log_q = log_q - log_sum_exp(log_q)
        log_q = log_q.log_softmax(-1)
    return log_q.exp()
