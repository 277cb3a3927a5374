"""Hugging Face transformers' ``Dinov2Model`` and ``Dinov2WithRegistersModel``, alone or below a task's head."""

from collections.abc import Mapping

from torch import Tensor

from sslkit.weights.hugging_face import HuggingFace


class HuggingFaceDinov2(HuggingFace):
    """A ViT with layer scale, and in some models registers and gated MLPs."""

    title = "Hugging Face Dinov2Model"
    sign = r"\.layer_scale1\.lambda1$"
    models = ("dinov2", "dinov2_with_registers", "")
    family = "dinov2"

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With registers timm gives CLS no position of its own: the published one is added to the token."""
        named = super().to_timm(state)
        if "reg_token" in named:
            named["cls_token"] = named["cls_token"] + named["pos_embed"][:, :1]
            named["pos_embed"] = named["pos_embed"][:, 1:]
        return named
