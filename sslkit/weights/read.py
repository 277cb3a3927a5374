"""Published checkpoints into an encoder.

A checkpoint is a tree: ``{"teacher": {"module.backbone.blocks.0...": ...}, "optimizer": ...}``. Its layout is
recognised, its containers are opened one at a time until keys of the encoder lie on top, and those are renamed to
timm's names, resampled to the encoder's grid by timm's own ``checkpoint_filter_fn``, and compared key by key and shape
by shape. Half a match is refused: an encoder that is partly random gives plausible, wrong features.
"""

import argparse
import pathlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from sslkit import registry
from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError
from sslkit.files import read_json
from sslkit.weights.coverage import Coverage
from sslkit.weights.layouts.base import Layout

LAYOUTS = "sslkit.weights.layouts"
# Keys of a file that belong to an encoder: left over, they mean another architecture, not a head or a decoder.
ENCODER_KEYS = re.compile(r"(blocks|patch_embed|norm|norm_pre|fc_norm|cls_token|pos_embed|reg_token|dist_token)(\.|$)")
# What published training checkpoints hold next to tensors: plain data, whose construction runs no code.
HARMLESS = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


def read_checkpoint(path: Path) -> Any:
    """The tree of tensors in a torch or safetensors file, on the CPU. Code in the file is never run.

    Raises:
        SslkitError: the file cannot be read, or holds objects that only running code could build.
    """
    if not path.is_file():
        raise SslkitError(f"no checkpoint at {path}: --weights takes a file, or random, or pixels")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page; the name of what the file asked for is in it.
        named = re.search(r"(?:GLOBAL|class|function) [`'\"]?([\w.]+)", str(error))
        what = f"asks for {named.group(1)}" if named and "." in named.group(1) else "is not a plain checkpoint"
        raise SslkitError(
            f"{path} {what}: only tensors and plain data are loaded, code in a file is never run; "
            "save the model's state_dict() alone and use that file"
        ) from error
    except (safetensors.SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise SslkitError(f"{path} is not a readable checkpoint; it may be incomplete ({why})") from error


def load_encoder(weights_path: Path, info_path: Path) -> Encoder:
    """The encoder that ``write.save_encoder`` wrote, in eval mode, without drop path.

    Raises:
        SslkitError: the two files do not belong together.
    """
    try:
        encoder = Encoder.from_info(read_json(info_path))
    except (ValueError, KeyError, TypeError) as error:
        raise SslkitError(f"{info_path} is not an encoder.json that pretrain wrote ({error})") from error
    load_checkpoint(encoder, weights_path)
    return encoder.eval()


def load_checkpoint(encoder: Encoder, path: Path) -> Coverage:
    """Fill an encoder's timm model from a published checkpoint, whatever its layout.

    Returns:
        Which keys were used and which were not.

    Raises:
        SslkitError: unreadable file, or one that does not fill the encoder completely.
    """
    target: dict[str, Tensor] = encoder.model.state_dict()
    tree = read_checkpoint(path)
    layout = _layout_of(tree, target)
    state, opened, unused, remarks = _unwrap(tree, layout, target)
    prefix = ".".join([*opened, ""]) if opened else ""
    if not state:
        raise SslkitError(
            f"{path} holds no encoder: none of its keys is one of {encoder.spec.arch}'s "
            f"(it has {', '.join(unused[:3]) or 'no tensors'}); is --arch right?"
        )
    source = filtered = layout.to_timm(state)
    if encoder.vit:
        remarks += _resampled(source, encoder)
        filtered = checkpoint_filter_fn(dict(source), encoder.model)
    _check_filled(path, encoder.spec.arch, f"read as {layout.title}, {_looks_like(source)}", filtered, target)
    encoder.model.load_state_dict({key: filtered[key] for key in target}, strict=True)
    used = {key for key in state if layout.timm_name(key) in target}
    return Coverage(
        file=path.name,
        layout=layout.title,
        path=tuple(opened),
        used=sorted(prefix + key for key in used),
        unused=sorted([*unused, *(prefix + key for key in state.keys() - used)]),
        missing=[],
        remarks=remarks,
    )


def _layout_of(tree: Any, target: Mapping[str, Tensor]) -> Layout:
    """The layout in which a checkpoint holds most of an encoder's keys; of equals, one that recognises it."""
    layouts: list[Layout] = [registry.load(LAYOUTS, name)() for name in registry.names(LAYOUTS)]
    keys = _tensor_keys(tree) if isinstance(tree, Mapping) else []
    recognised = [layout for layout in layouts if layout.recognises(keys)]
    plain = [layout for layout in layouts if layout.sign is None]

    def filled(layout: Layout) -> int:
        return len({layout.timm_name(key) for key in _unwrap(tree, layout, target)[0]} & target.keys())

    return max([*recognised, *plain], key=filled)


def _unwrap(
    tree: Any, layout: Layout, target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str], list[str]]:
    """Open containers until keys of ``target`` lie on top: (state, containers, keys left outside, remarks)."""
    opened: list[str] = []
    outside: list[str] = []
    remarks: list[str] = []
    while isinstance(tree, Mapping):
        here = ".".join([*opened, ""]) if opened else ""
        if any(isinstance(key, str) and layout.timm_name(key) in target for key in tree):
            state = {key: value for key, value in tree.items() if isinstance(value, Tensor)}
            return state, opened, outside, remarks
        found = [name for name in layout.containers if any(_is_inside(key, name) for key in tree)]
        if not found:
            outside += [here + key for key in _tensor_keys(tree)]
            break
        name = found[0]
        if name == "teacher" and "student" in found:
            remarks.append("holds teacher and student: the teacher is used")
        outside += [here + k for k in _tensor_keys({k: v for k, v in tree.items() if not _is_inside(k, name)})]
        if isinstance(tree.get(name), Mapping):
            tree = tree[name]
        else:
            tree = {key.removeprefix(f"{name}."): value for key, value in tree.items() if _is_inside(key, name)}
        opened.append(name)
    return {}, opened, outside, remarks


def _is_inside(key: Any, name: str) -> bool:
    return isinstance(key, str) and (key == name or key.startswith(f"{name}."))


def _tensor_keys(tree: Mapping[Any, Any], prefix: str = "") -> list[str]:
    """Dotted keys of the tensors in a tree; an optimizer's state, keyed by numbers, is not a model and is left out."""
    found = []
    for key, value in tree.items():
        if isinstance(value, Tensor):
            found.append(f"{prefix}{key}")
        elif isinstance(value, Mapping) and all(isinstance(k, str) for k in value) and "param_groups" not in value:
            found += _tensor_keys(value, f"{prefix}{key}.")
    return found


def _resampled(source: Mapping[str, Tensor], encoder: Encoder) -> list[str]:
    """Remarks on what timm's filter is about to resample, which it does silently."""
    remarks = []
    patch, tokens = source.get("patch_embed.proj.weight"), source.get("pos_embed")
    if patch is not None and patch.ndim == 4 and patch.shape[-1] != encoder.patch_size:
        remarks.append(f"patch embedding resampled from {patch.shape[-1]} to {encoder.patch_size} px by timm")
    here = encoder.model.pos_embed
    if tokens is not None and here is not None and tokens.ndim == 3:
        prefix = 0 if encoder.model.no_embed_class else encoder.prefix
        old, new = (round((table.shape[1] - prefix) ** 0.5) for table in (tokens, here))
        if old != new:
            remarks.append(f"positions resampled from {old}x{old} to {new}x{new} by timm (bicubic, antialias)")
    return remarks


def _check_filled(
    path: Path, arch: str, found: str, filtered: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> None:
    """Refuse what does not fill ``target`` exactly; ``found`` says what the file looks like."""
    shapes = [key for key in target if key in filtered and filtered[key].shape != target[key].shape]
    if shapes:
        key = shapes[0]
        raise SslkitError(
            f"{path} is of another architecture than {arch}: {key} is {tuple(filtered[key].shape)} in the file and "
            f"{tuple(target[key].shape)} in the encoder ({len(shapes)} keys differ; {found}); name its --arch"
        )
    missing = [key for key in target if key not in filtered]
    if missing:
        raise SslkitError(
            f"{path} does not fill {arch}: {len(missing)} of {len(target)} keys are missing: "
            f"{_some(missing)} ({found}); name its --arch"
        )
    foreign = [key for key in filtered if key not in target and ENCODER_KEYS.match(key)]
    if foreign:
        raise SslkitError(
            f"{path} is of another architecture than {arch}: it has {len(foreign)} keys of an encoder that {arch} "
            f"lacks: {_some(foreign)} ({found}); name its --arch"
        )


def _looks_like(source: Mapping[str, Tensor]) -> str:
    """The size of the ViT in a state dict, in words."""
    patch = source.get("patch_embed.proj.weight")
    depth = len({key.split(".")[1] for key in source if key.startswith("blocks.")})
    if patch is None or not depth:
        return f"the file has {len(source)} keys"
    return f"the file has width {patch.shape[0]}, {depth} blocks, patch {patch.shape[-1]}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
