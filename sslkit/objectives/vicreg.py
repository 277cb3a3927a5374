"""VICReg: variance, invariance, covariance (arXiv:2105.04906).

For the embeddings z, z' of two views, with D dimensions and N images,

    s(z, z') = mean squared difference, over images and dimensions,
    v(z)     = 1/D sum_j max(0, 1 - sqrt(Var(z_j) + 1e-4)),
    c(z)     = 1/D sum_{i != j} Cov(z)_ij^2,
    L        = 25 s(z, z') + 25 (v(z) + v(z')) / 2 + 1 (c(z) + c(z')).

The variance keeps embeddings apart, the covariance keeps dimensions from repeating each other. s averages over D and v
over the two branches as the authors' code has it; the paper's equations add where these take means.
"""

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.distributed.process_group import processes
from sslkit.distributed.sums import summed
from sslkit.objectives.base import EmbeddingObjective
from sslkit.recipe.sections import HeadSection

EPSILON = 1e-4


def covariance(z: Tensor) -> Tensor:
    """(B, D) -> (D, D), unbiased, over the N images of all processes."""
    images = len(z) * processes()
    centred = z - summed(z.sum(0)) / images
    return summed(centred.T @ centred) / (images - 1)


def hinge(cov: Tensor) -> Tensor:
    """v: how much the standard deviations fall short of 1."""
    return F.relu(1 - (cov.diagonal() + EPSILON).sqrt()).mean()


def redundancy(cov: Tensor) -> Tensor:
    """c: squared covariances of different dimensions."""
    return (cov.square().sum() - cov.diagonal().square().sum()) / len(cov)


def loss(z1: Tensor, z2: Tensor, weights: tuple[float, float, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of (B, D) and (B, D), and its parts without their weights of invariance, variance, covariance."""
    covariances = covariance(z1), covariance(z2)
    parts = {
        "invariance": F.mse_loss(z1, z2),
        "variance": (hinge(covariances[0]) + hinge(covariances[1])) / 2,
        "covariance": redundancy(covariances[0]) + redundancy(covariances[1]),
    }
    first, second, third = (weight * part for weight, part in zip(weights, parts.values(), strict=True))
    return first + second + third, parts


class Vicreg(EmbeddingObjective):
    """The weighted sum of the three terms."""

    couples_batch = True

    class Config(EmbeddingObjective.Config):
        """Weights of the three terms."""

        invariance: float = Field(default=25.0, ge=0)
        variance: float = Field(default=25.0, ge=0)
        covariance: float = Field(default=1.0, ge=0)

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.weights = (config.invariance, config.variance, config.covariance)

    def compare(self, online: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one pair, and its parts as metrics."""
        return loss(online, target, self.weights)
