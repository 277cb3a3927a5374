"""Heads that look at different places: disagreement on attended positions (arXiv:1810.10183, section 3).

With a_h the attention from CLS to the patches of head h of the student's last block, in a global crop,

    L = mean over crops and over pairs g < h of  cos(a_g, a_h),

which is 1 where all heads attend to the same patches and 0 where no two of them share one. The paper takes the
product of the whole attention matrices; a cosine cannot be made small by attending to CLS and registers instead.
No gradient reaches the last block's values: only its queries and keys, and what is below.
"""

from torch import Tensor
from torch.nn import functional as F

from sslkit.errors import UsageError
from sslkit.objectives.base import Objective, Scene, Term, over_patches


def loss(attention: Tensor) -> Tensor:
    """Mean cosine over pairs of heads: (..., H, N), H at least 2, with rows of any scale -> 0-dim."""
    heads = attention.shape[-2]
    unit = F.normalize(over_patches(attention), dim=-1)
    # |sum of H unit vectors|^2 = H + twice the sum of the cosines of all pairs.
    return ((unit.sum(-2).square().sum(-1) - heads) / (heads * (heads - 1))).mean()


class HeadDiversity(Objective):
    """Cosine similarity of the student's heads."""

    reads_attention = True

    class Config(Objective.Config):
        """It needs no head on top of the encoder."""

        head: str | None = None

    def forward(self, scene: Scene) -> Term:
        """The mean over crops and pairs of heads.

        Raises:
            UsageError: the encoder has only one head.
        """
        attention = scene.student.attention
        assert attention is not None
        if attention.shape[-2] < 2:
            raise UsageError("head_diversity compares heads, and the encoder has one: set encoder.heads to 2 or more")
        return Term(loss(attention))
