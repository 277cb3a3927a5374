"""Hugging Face transformers' ``ViTMAEModel``, and ``ViTMAEForPreTraining`` with its decoder."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from sslkit.weights.hugging_face import HuggingFace, joined, renamed

DECODER = {"decoder_embed": "embed", "decoder_norm": "norm", "decoder_pred": "predict", "mask_token": "mask_token"}


class HuggingFaceVitMae(HuggingFace):
    """A plain ViT, and a decoder that evaluation does not need."""

    title = "Hugging Face ViTMAEModel"
    sign = r"(^|\.)embeddings\.patch_embeddings\.projection\.weight$"
    models = ("vit_mae",)
    needs = r"(^|\.)decoder\.decoder_embed\."
    family = "vit"

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """The decoder but for its positions, which are computed."""
        found, keys, blocks = {}, {}, {}
        for key, value in tensors.items():
            name = key.rpartition("decoder.decoder_")[2] if "decoder.decoder_" in key else key.partition("decoder.")[2]
            name = f"decoder_{name}" if "decoder.decoder_" in key else name
            first, _, inside = name.partition(".")
            if first in DECODER:
                found[".".join(filter(None, ("decoder", DECODER[first], inside)))] = (key, value)
            elif re.match(r"decoder_(encoder\.layer|layers)\.\d", name):
                name = name.removeprefix("decoder_")
                blocks[name] = value
                keys[renamed(name)] = key
        return found | {f"decoder.{name}": (keys[name], value) for name, value in joined(blocks).items()}
