"""iBOT's masked image modelling (arXiv:2111.07832), also the patch loss of AttMask (arXiv:2203.12719).

The student sees a global crop with some patches replaced by a mask token and predicts, for each of them, the
prototypes that the teacher assigns to the same patch of the unmasked crop:

    L = mean over crops of  (1 / |M|) sum_{i in M} H(P_t(x)_i, P_s(x_masked)_i),

a crop without a mask counting 0. The centre is that of ALL patches: the hidden ones alone would bias it.
"""

from torch import Tensor

from sslkit.objectives.base import HiddenObjective, Scene


class Ibot(HiddenObjective):
    """iBOT's cross-entropy on hidden patch tokens."""

    def token_weights(self, scene: Scene) -> Tensor:
        """1 / |M|: all hidden tokens of a crop count alike."""
        assert scene.masks is not None
        return scene.masks.token_weights
