"""Hugging Face transformers' ``ViTModel``, with an image processor."""

from collections.abc import Mapping
from pathlib import Path

from timm.layers.attention import Attention
from torch import Tensor, nn

from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError
from sslkit.export.formats.base import ExportFormat


class TransformersFolder(ExportFormat):
    """A folder for ``transformers.ViTModel.from_pretrained``."""

    library = "transformers"
    requires = ("transformers",)
    extra = "transformers"
    usage = """
from transformers import ViTModel

model = ViTModel.from_pretrained(".", add_pooling_layer=False).eval()
cls = model(pixel_values=images).last_hidden_state[:, 0]  # (B, {width})
"""

    def write(self, encoder: Encoder, folder: Path) -> None:
        """Write model and image processor.

        Raises:
            UsageError: the encoder has parts that ``ViTModel`` lacks, or is not a ViT.
        """
        if why := _what_it_lacks(encoder):
            raise UsageError(
                f"{encoder.spec.arch} {why}, which transformers' ViTModel lacks: export it with --format timm"
            )
        from transformers import ViTConfig, ViTImageProcessor, ViTModel

        block, size = encoder.model.blocks[0], encoder.spec.image_size
        config = ViTConfig(
            hidden_size=encoder.width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=block.attn.num_heads,
            intermediate_size=block.mlp.fc1.out_features,
            image_size=size,
            patch_size=encoder.patch_size,
            num_channels=encoder.spec.in_channels,
            qkv_bias=block.attn.qkv.bias is not None,
            layer_norm_eps=encoder.model.norm.eps,
            hidden_act="gelu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model = ViTModel(config, add_pooling_layer=False)
        nested = any("attention.attention.query" in key for key in model.state_dict())
        model.load_state_dict(to_transformers(encoder.model.state_dict(), nested), strict=True)
        model.save_pretrained(folder)
        # It squeezes a photo of any shape into a square; the card says how the features were measured.
        square = {"height": size, "width": size}
        mean, std = map(list, encoder.spec.statistics)
        ViTImageProcessor(size=square, resample=3, image_mean=mean, image_std=std).save_pretrained(folder)


def _what_it_lacks(encoder: Encoder) -> str:
    """What an encoder has that ``ViTModel`` lacks; empty where nothing."""
    if not encoder.vit:
        return "is not a ViT"
    if not encoder.has_cls or encoder.prefix != 1:
        return "has no CLS token, or registers"
    if encoder.model.pos_embed is None or encoder.model.no_embed_class:
        return "has other positions"
    block = encoder.model.blocks[0]
    plain = isinstance(block.attn, Attention) and isinstance(block.attn.q_norm, nn.Identity)
    if not plain or not isinstance(block.ls1, nn.Identity) or not hasattr(block.mlp, "fc2"):
        return "has layer scale, normalised queries or a gated MLP"
    if not isinstance(encoder.model.norm_pre, nn.Identity):
        return "has a norm before its blocks"
    return ""


def to_transformers(state: Mapping[str, Tensor], nested: bool) -> dict[str, Tensor]:
    """A state dict with timm's names -> one with those of transformers.

    Args:
        state: of timm's model.
        nested: the deeper names of transformers before its version 5.
    """
    layer = "encoder.layer" if nested else "layers"
    rename = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense" if nested else "attention.o_proj",
        "mlp.fc1": "intermediate.dense" if nested else "mlp.fc1",
        "mlp.fc2": "output.dense" if nested else "mlp.fc2",
    }
    parts = ("query", "key", "value") if nested else ("q_proj", "k_proj", "v_proj")
    top = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        if not key.startswith("blocks."):
            named[top[key] if key in top else f"{top[module]}.{kind}"] = value
            continue
        _, number, inside = module.split(".", 2)
        if inside == "attn.qkv":
            prefix = f"{layer}.{number}.attention" + (".attention" if nested else "")
            named |= {f"{prefix}.{p}.{kind}": v for p, v in zip(parts, value.chunk(3), strict=True)}
        else:
            named[f"{layer}.{number}.{rename[inside]}.{kind}"] = value
    return named
