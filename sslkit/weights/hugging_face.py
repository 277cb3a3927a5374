"""What the layouts of Hugging Face transformers share: names of keys, and the model's ``config.json``."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sslkit.errors import SslkitError
from sslkit.weights.architecture import spec_of_sizes
from sslkit.weights.layouts.base import Layout

# In order; the names of version 5 of transformers come second where there are two.
NAMES = [
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(attention\.(query|key|value)|[qkv]_proj)\.", ".attn.qkv."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
]
QUERY = re.compile(r"\.(attention\.query|q_proj)\.")
OTHERS = {"attention.query": ("attention.key", "attention.value"), "q_proj": ("k_proj", "v_proj")}

TIMM_EPS = 1e-6  # of timm's ViTs; transformers' ViTModel has 1e-12, and tokens of small variance feel it


def renamed(key: str) -> str:
    """Timm's name for a key; query, key and value have the same one."""
    for pattern, name in NAMES:
        key = re.sub(pattern, name, key)
    return key


def joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Timm's names, with query, key and value in one tensor."""
    found = {}
    for key, value in state.items():
        name, query = renamed(key), QUERY.search(key)
        if not name.endswith((".attn.qkv.weight", ".attn.qkv.bias")):
            found[name] = value
        elif query:
            parts = [key.replace(f".{query.group(1)}.", f".{other}.") for other in OTHERS[query.group(1)]]
            if all(part in state for part in parts):
                found[name] = torch.cat([value, *(state[part] for part in parts)])
    return found


class HuggingFace(Layout):
    """A layout of transformers.

    Attributes:
        models: ``model_type`` in ``config.json``; an empty one stands for a file without a configuration.
        but: a key that such a file does not have.
        needs: a key by which a file without a configuration is recognised.
        family: of timm's architectures, see ``spec_of_sizes``.
    """

    containers = ("vit", "dinov2", "backbone", *Layout.containers)
    models: ClassVar[tuple[str, ...]]
    but: ClassVar[str] = r"^$"
    needs: ClassVar[str] = ""
    family: ClassVar[str]

    def recognises(self, keys: Collection[str], about: Mapping[str, Any]) -> bool:
        """By the keys and by the model's type."""
        if not super().recognises(keys, about) or any(re.search(self.but, key) for key in keys):
            return False
        if self.needs and any(re.search(self.needs, key) for key in keys):
            return True
        return str(about.get("model_type", "")) in self.models

    def timm_name(self, key: str) -> str | None:
        """None for the pooler, which features do not need, for a decoder, and for the mask token."""
        name = renamed(key)
        return name if re.match(r"(blocks|patch_embed|norm)\.|(pos_embed|cls_token|reg_token)$", name) else None

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join query, key and value."""
        return joined({key: value for key, value in state.items() if self.timm_name(key) is not None})

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """The token that stands for masked patches, where the model was trained with one."""
        key = ".".join([*opened, "embeddings.mask_token"])
        return {"mask_token": (key, tensors[key].reshape(1, -1))} if key in tensors else {}

    def spec(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of the model's configuration.

        Raises:
            SslkitError: the model has parts that timm's lacks.
        """
        if "hidden_size" not in about:
            return {}
        if about.get("hidden_act", "gelu") != "gelu":
            raise SslkitError(f"the model's config.json has hidden_act {about['hidden_act']}: only gelu can be read")
        sizes = (int(about[key]) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"))
        spec = spec_of_sizes(self.family, *sizes, registers=int(about.get("num_register_tokens", 0)))
        eps = float(about.get("layer_norm_eps", TIMM_EPS))
        return {**spec, "image_size": int(about["image_size"]), **({"norm_eps": eps} if eps != TIMM_EPS else {})}
