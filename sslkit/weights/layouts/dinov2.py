"""DINOv2's checkpoints: registers, layer scale, gated MLPs, and blocks saved in chunks by sharded training."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from sslkit.weights.layouts.base import Layout


class Dinov2(Layout):
    """timm's names but for registers, gated MLPs and chunks."""

    title = "DINOv2 (arXiv:2304.07193)"
    sign = r"(^|\.)register_tokens$|\.mlp\.w12\.|(^|\.)blocks\.\d+\.\d+\."

    def recognises(self, keys: Collection[str], about: Mapping[str, Any]) -> bool:
        """Small models without registers show none of the signs: a mask token and layer scale give them away."""
        ends = {key.rpartition(".")[2] for key in keys if key.endswith("mask_token") or ".ls1." in key}
        return super().recognises(keys, about) or {"mask_token", "gamma"} <= ends

    def timm_name(self, key: str) -> str | None:
        """``blocks.<chunk>.<block>.`` loses the chunk: blocks are numbered through all chunks."""
        if key == "register_tokens":
            return "reg_token"
        key = re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", key)
        return super().timm_name(key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."))

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With registers timm gives CLS no position of its own: the published one is added to the token."""
        named = super().to_timm(state)
        if "reg_token" in named:
            named["cls_token"] = named["cls_token"] + named["pos_embed"][:, 0]
            named["pos_embed"] = named["pos_embed"][:, 1:]
        return named
