"""Barlow Twins: redundancy reduction (arXiv:2103.03230).

With z1, z2 the embeddings of two views, each dimension standardised over the batch, the cross-correlation

    C = z1^T z2 / N,    L = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2

is pulled towards the identity: a dimension agrees with itself in the other view and says nothing about the others.
It needs no negatives, no stopped gradient and no teacher; z2 may also be a teacher's embedding.
"""

from pydantic import Field
from torch import Tensor

from sslkit.distributed.process_group import processes
from sslkit.distributed.sums import standardised, summed
from sslkit.objectives.base import EmbeddingObjective
from sslkit.recipe.sections import HeadSection


def cross_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """(B, D), (B, D) -> (D, D) correlations over the N images of all processes."""
    images = len(z1) * processes()
    return summed(standardised(z1).T @ standardised(z2)) / images


def loss(correlation: Tensor, off_diagonal: float) -> Tensor:
    """Squared distance of (D, D) to the identity, with lambda off the diagonal: a sum, near D before training."""
    return (1 - correlation.diagonal()).square().sum() + off_diagonal * _off_diagonal(correlation)


def _off_diagonal(correlation: Tensor) -> Tensor:
    """Sum of squares off the diagonal."""
    return correlation.square().sum() - correlation.diagonal().square().sum()


class BarlowTwins(EmbeddingObjective):
    """The cross-correlation of two views."""

    couples_batch = True

    class Config(EmbeddingObjective.Config):
        """The trade-off."""

        off_diagonal: float = Field(default=0.0051, ge=0)  # lambda

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.off_diagonal = config.off_diagonal

    def compare(self, online: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss; metrics: the mean of the diagonal, and the root mean square off it."""
        correlation = cross_correlation(online, target)
        redundancy = _off_diagonal(correlation.detach()) / max(len(correlation) * (len(correlation) - 1), 1)
        metrics = {"diagonal": correlation.diagonal().mean(), "off_diagonal_rms": redundancy.clamp_min(0).sqrt()}
        return loss(correlation, self.off_diagonal), metrics
