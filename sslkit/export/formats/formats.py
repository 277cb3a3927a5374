"""Write an encoder so that another library loads it back and gives the same features.

Each writer takes the encoder in eval mode and an empty folder. Graphs (ONNX, TorchScript) take normalised images
(B, 3, S, S) of the encoder's own size and return ``cls`` (B, D) and, of a ViT, ``patches`` (B, N, D).
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.attention import Attention
from torch import Tensor, nn

from sslkit.data.evaluation_crop import CROP_RATIO, SMALLEST_CROPPED
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError, UsageError
from sslkit.files import atomic


class Features(nn.Module):
    """What a graph computes: (B, 3, S, S) -> cls (B, D), and of a ViT patches (B, N, D), both after the final norm."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        tokens = self.encoder(images)
        return (tokens.cls,) if tokens.patches is None else (tokens.cls, tokens.patches)


def timm_folder(encoder: Encoder, folder: Path) -> None:
    """``timm.create_model("local-dir:FOLDER", pretrained=True)``: ``config.json`` and ``model.safetensors``."""
    model = copy.deepcopy(encoder.model)
    size = encoder.spec.image_size
    # What the architecture's name brings along says where other weights are; these are not those.
    model.pretrained_cfg = {
        **{k: model.pretrained_cfg[k] for k in ("architecture", "first_conv", "classifier")},
        "interpolation": "bicubic",
        "input_size": (3, size, size),
        "fixed_input_size": False,
        "crop_pct": CROP_RATIO if size >= SMALLEST_CROPPED else 1.0,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "num_classes": 0,
    }
    arguments = {k: v for k, v in encoder.spec.timm_kwargs().items() if k != "num_classes"}
    timm.models.save_for_hf(model, str(folder), model_args=arguments, safe_serialization=True)


def pt_file(encoder: Encoder, folder: Path) -> None:
    """``torch.load("encoder.pt", weights_only=True)``: ``state_dict``, timm's names, and what builds the model."""
    info = encoder.info("timm")
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.model.state_dict().items()}
    about = {key: info[key] for key in ("arch", "timm_kwargs", "image_size", "mean", "std")}
    with atomic(folder / "encoder.pt") as handle:
        torch.save({**about, "state_dict": state}, handle)


def torchscript_file(encoder: Encoder, folder: Path) -> None:
    """``torch.jit.load("encoder.torchscript.pt")``, traced at the encoder's own image size."""
    with torch.no_grad(), warnings.catch_warnings():
        # TorchScript is deprecated in torch, and the trace fixes the grid, as is said in the card.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Features(_plain(encoder)), _example(encoder))
        with atomic(folder / "encoder.torchscript.pt") as handle:
            torch.jit.save(traced, handle)


def onnx_file(encoder: Encoder, folder: Path) -> None:
    """``onnxruntime.InferenceSession("encoder.onnx")``: input ``images``, outputs ``cls`` and ``patches``."""
    need("onnx", "onnxscript")
    names = ["cls", "patches"] if encoder.vit else ["cls"]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Features(_plain(encoder)),
            (_example(encoder),),
            input_names=["images"],
            output_names=names,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise SslkitError("torch.onnx.export gave no program: try another version of torch")
    program.save(str(folder / "encoder.onnx"))


def transformers_folder(encoder: Encoder, folder: Path) -> None:
    """``transformers.ViTModel.from_pretrained(FOLDER)``, with an image processor beside it.

    Raises:
        UsageError: the encoder has parts that ``ViTModel`` lacks: registers, layer scale, no CLS token, another model.
    """
    need("transformers")
    _plain_vit(encoder)
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    block, size = encoder.model.blocks[0], encoder.spec.image_size
    config = ViTConfig(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=block.attn.num_heads,
        intermediate_size=block.mlp.fc1.out_features,
        image_size=size,
        patch_size=encoder.patch_size,
        qkv_bias=block.attn.qkv.bias is not None,
        layer_norm_eps=encoder.model.norm.eps,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ViTModel(config, add_pooling_layer=False)
    state = _transformers_names(encoder.model.state_dict(), "attention.attention.query" in "".join(model.state_dict()))
    model.load_state_dict(state, strict=True)
    model.save_pretrained(folder)
    # It makes a square of any photo; the card says what the features were measured with.
    whole = {"height": size, "width": size}
    mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    ViTImageProcessor(size=whole, resample=3, image_mean=mean, image_std=std).save_pretrained(folder)


FORMATS: dict[str, Callable[[Encoder, Path], None]] = {
    "timm": timm_folder,
    "transformers": transformers_folder,
    "onnx": onnx_file,
    "torchscript": torchscript_file,
    "pt": pt_file,
}


def need(*packages: str) -> None:
    """Raises: UsageError: a package that the format is written with is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        extra = "onnx" if "onnx" in missing[0] else missing[0]
        raise UsageError(f"this format needs {' and '.join(missing)}: pip install 'sslkit[{extra}]'")


def _plain(encoder: Encoder) -> Encoder:
    """A copy on the CPU, in eval mode."""
    return copy.deepcopy(encoder).cpu().eval().requires_grad_(False)


def _example(encoder: Encoder) -> Tensor:
    # Two images: a batch of one may be taken for a constant.
    size = encoder.spec.image_size
    return torch.zeros(2, 3, size, size)


def _plain_vit(encoder: Encoder) -> None:
    name = encoder.spec.arch
    why = None
    if not encoder.vit:
        why = "is no ViT"
    elif not encoder.has_cls or encoder.prefix != 1:
        why = "has no CLS token, or registers"
    elif encoder.model.pos_embed is None or encoder.model.no_embed_class:
        why = "has other positions"
    else:
        block = encoder.model.blocks[0]
        plain = isinstance(block.attn, Attention) and isinstance(block.attn.q_norm, nn.Identity)
        if not plain or not isinstance(block.ls1, nn.Identity) or not hasattr(block.mlp, "fc2"):
            why = "has layer scale, normalised queries or a gated MLP"
        elif not isinstance(encoder.model.norm_pre, nn.Identity):
            why = "has a norm before its blocks"
    if why:
        raise UsageError(f"{name} {why}, which transformers' ViTModel lacks: export it with --format timm")


def _transformers_names(state: dict[str, Any], nested: bool) -> dict[str, Tensor]:
    """Names of timm -> those of transformers; before its version 5 they were nested deeper."""
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
