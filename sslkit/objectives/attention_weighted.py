"""iBOT's patch loss, each hidden token counting as much as the teacher attends to it.

iBOT (arXiv:2111.07832) takes the mean over a crop's hidden tokens M. AttMask (arXiv:2203.12719) chooses by the
teacher's attention a which tokens are hidden; here the same attention also says how much each of them matters:

    L = mean over crops of  sum_{i in M} w_i H(P_t(x)_i, P_s(x_masked)_i),
    w_i = (1 - blend) / |M| + blend * a_i / sum_{j in M} a_j,

a crop without a mask counting 0. Even attention, or a blend of 0, is iBOT. No gradient flows through the weights.
"""

from pydantic import Field
from torch import Tensor

from sslkit.masks.base import Masks
from sslkit.objectives.base import HiddenObjective, PrototypeObjective, Scene, over_patches
from sslkit.recipe.sections import HeadSection


def shares(attention: Tensor, masks: Masks) -> Tensor:
    """Each hidden token's share of its crop's attention to hidden tokens: (M,) in the order of ``Masks.index``.

    The attention (C, N) is that of the unmasked crops, mean over heads.
    """
    return over_patches(attention.masked_fill(~masks.mask, 0)).flatten()[masks.index]


class AttentionWeighted(HiddenObjective):
    """Cross-entropy on hidden patch tokens, weighted by attention."""

    reads_teacher_attention = True

    class Config(PrototypeObjective.Config):
        """How unequal the weights are."""

        blend: float = Field(default=1.0, ge=0, le=1)  # 0: all hidden tokens alike, 1: by attention

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.blend = config.blend

    def token_weights(self, scene: Scene) -> Tensor:
        """The module's w."""
        assert scene.masks is not None and scene.teacher is not None and scene.teacher.attention is not None
        attention = scene.teacher.attention.detach().mean(-2).flatten(0, 1)  # (C, N), view by view as the masks are
        return (1 - self.blend) * scene.masks.token_weights + self.blend * shares(attention, scene.masks)
