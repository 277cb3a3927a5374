"""MoCo v3: predict the teacher's embedding of the other view, and tell it apart from those of other images.

With q the student's embedding of one view after a predictor, and k the teacher's of another (arXiv:2104.02057,
equation 1 and algorithm 1), both of unit length,

    L = 2 tau x mean over images of  -log  exp(q . k+ / tau) / sum_k exp(q . k / tau),

over the keys of all processes. The factor keeps the gradient's size independent of tau. Here is the mean over both
orders of the views, where the paper adds them: weight 2 is the paper's.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.distributed.sums import gathered
from sslkit.heads.base import mlp
from sslkit.objectives.base import EmbeddingObjective
from sslkit.recipe.sections import HeadSection


def loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """(N, E), (N, E), whose rows belong together -> 0-dim."""
    cosines = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T
    positives = torch.arange(len(queries), device=queries.device)
    return 2 * temperature * F.cross_entropy(cosines / temperature, positives)


class MocoV3(EmbeddingObjective):
    """Contrast between the predictor's output and the teacher's embeddings."""

    couples_batch = True

    class Config(EmbeddingObjective.Config):
        """Temperature, and the predictor: two layers, a BatchNorm after each."""

        against: Literal["teacher", "student", "stopped"] = "teacher"
        temperature: float = Field(default=0.2, gt=0)  # the paper's for ViTs
        predictor_hidden: int | None = Field(default=None, gt=0, le=2**24)  # None: the head's hidden width

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        assert head is not None  # see the base class
        self.temperature = config.temperature
        hidden = config.predictor_hidden or getattr(head, "hidden", head.embedding)
        self.predictor = mlp(head.embedding, hidden, head.embedding, layers=2, batch_norm=True, last_norm=True)

    def compare(self, online: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one pair of views; no metrics."""
        return loss(gathered(self.predictor(online)), gathered(target), self.temperature), {}
