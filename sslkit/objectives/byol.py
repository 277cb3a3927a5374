"""BYOL: bootstrap your own latent (arXiv:2006.07733).

The student predicts the teacher's embedding z' of another view from its own embedding z; with the predictor q,

    L = || q(z) / |q(z)| - z' / |z'| ||^2 = 2 - 2 cos(q(z), z').

Only the student has the predictor, and the teacher moves slowly. There are no negatives, yet the embeddings do not
become constant. With ``against: stopped``, no teacher and weight 0.5 this is SimSiam's (arXiv:2011.10566) plus 1.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.heads.base import mlp
from sslkit.objectives.base import EmbeddingObjective
from sslkit.recipe.sections import HeadSection


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """(B, E), (B, E) -> mean of 2 - 2 cos, between 0 and 4."""
    return 2 - 2 * F.cosine_similarity(prediction, target, dim=-1).mean()


class Byol(EmbeddingObjective):
    """Prediction of the teacher's embedding; the mean over pairs, where the paper adds both orders of its two views."""

    # The loss does not, but the predictor's BatchNorm does.
    couples_batch = True

    class Config(EmbeddingObjective.Config):
        """The predictor."""

        against: Literal["teacher", "student", "stopped"] = "teacher"
        predictor_hidden: int | None = Field(default=None, gt=0)  # None: the head's hidden width

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        assert head is not None  # see the base class
        hidden = config.predictor_hidden or getattr(head, "hidden", head.embedding)
        self.predictor = mlp(head.embedding, hidden, head.embedding, layers=2, batch_norm=True)

    def compare(self, online: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one pair; no metrics."""
        return loss(self.predictor(online), target), {}
