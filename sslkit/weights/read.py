"""Published checkpoints into an encoder, and an encoder into files that plain timm loads.

A checkpoint is a tree: ``{"teacher": {"module.backbone.blocks.0...": ...}, "optimizer": ...}``. It is opened one
wrapping at a time until keys of the encoder lie on top, renamed to timm's names, resampled to the encoder's grid
by timm's own ``checkpoint_filter_fn``, and compared key by key and shape by shape. Half a match is refused: an
encoder that is partly random gives plausible, wrong features.
"""

import argparse
import pathlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError
from sslkit.files import atomic, read_json, write_json

# In the order in which they are opened: where a file holds both branches, the teacher is the better encoder
# (arXiv:2104.14294, section 5.1).
WRAPPINGS = ("teacher", "student", "state_dict", "model", "module", "_orig_mod", "backbone", "encoder")
# Keys of a file that belong to an encoder: left over, they mean another architecture, not a head or a decoder.
ENCODER_KEYS = re.compile(r"(blocks|patch_embed|norm|norm_pre|fc_norm|cls_token|pos_embed|reg_token|dist_token)(\.|$)")
# What published training checkpoints hold beside tensors: data, none of it runs anything when it is built.
HARMLESS = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class Coverage:
    """Which keys of a file filled an encoder, under the names they have in the file.

    Attributes:
        file: name of the file.
        path: the wrappings that were opened, outermost first; empty for a bare state dict.
        used: keys whose tensors are now in the encoder.
        unused: tensors that are in the file and not in the encoder: heads, decoders, mask tokens, the other branch.
        missing: keys of the encoder that the file did not fill; always empty, such a file is refused.
        remarks: what a person should know: the branch that was preferred, what was resampled.
    """

    file: str
    path: tuple[str, ...]
    used: list[str]
    unused: list[str]
    missing: list[str]
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """For ``features.json``."""
        return asdict(self)

    def line(self) -> str:
        """The report in one line; keys that were not used are shortened to their first parts."""
        groups: dict[str, int] = {}
        for key in self.unused:
            group = key.removeprefix(".".join([*self.path, ""])).split(".")[0]
            groups[group] = groups.get(group, 0) + 1
        rest = ", ".join(f"{name} ({count})" for name, count in groups.items())
        words = [f"{self.file}: {len(self.used)} keys used, {len(self.unused)} not{f': {rest}' if rest else ''}"]
        return "; ".join([*words, *self.remarks])


def read_checkpoint(path: Path) -> Any:
    """The tree of tensors in a torch or safetensors file, on the CPU. No code of the file is ever run.

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
        what = f"asks for {named.group(1)}" if named and "." in named.group(1) else "is no plain checkpoint"
        raise SslkitError(
            f"{path} {what}: only tensors and plain data are loaded, code in a file is never run; "
            "save its state_dict() alone and use that"
        ) from error
    except (safetensors.SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise SslkitError(f"{path} is no readable checkpoint, cut short perhaps ({why})") from error


def load_checkpoint(encoder: Encoder, path: Path) -> Coverage:
    """Fill an encoder's timm model from a published checkpoint of any known layout.

    Layouts: DINO (arXiv:2104.14294), iBOT (2111.07832), AttMask (2203.12719), MAE (2111.06377; its decoder is left
    out), DINOv2 (2304.07193; registers, layer scale and chunked blocks included), timm, safetensors.

    Returns:
        What was used and what was not.

    Raises:
        SslkitError: unreadable file, or one that does not fill the encoder completely.
    """
    target: dict[str, Tensor] = encoder.model.state_dict()
    state, opened, unused, remarks = _unwrap(read_checkpoint(path), target)
    prefix = ".".join([*opened, ""]) if opened else ""
    if not state:
        raise SslkitError(
            f"{path} holds no encoder: none of its keys is one of {encoder.spec.arch}'s "
            f"(it has {', '.join(unused[:3]) or 'no tensors'}); is --arch right?"
        )
    source, names = _to_timm_names(state)
    if encoder.vit:
        remarks += _resampled(source, encoder)
        filtered = checkpoint_filter_fn(dict(source), encoder.model)
    else:
        filtered = source
    _check_filled(path, encoder.spec.arch, source, filtered, target)
    encoder.model.load_state_dict({key: filtered[key] for key in target}, strict=True)
    used = {names.get(key, key) for key in target}
    # timm moves registers to its own name, and splits DINOv2's positions between CLS and patches.
    used |= {"register_tokens"} & state.keys() | {k for k in state if re.search(r"\.mlp\.w(12|3)\.", k)}
    return Coverage(
        file=path.name,
        path=tuple(opened),
        used=sorted(prefix + key for key in state if key in used),
        unused=sorted([*unused, *(prefix + key for key in state if key not in used)]),
        missing=[],
        remarks=remarks,
    )


def _unwrap(tree: Any, target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str], list[str]]:
    """Open wrappings until keys of ``target`` lie on top: (state, wrappings, keys left outside, remarks)."""
    opened: list[str] = []
    outside: list[str] = []
    remarks: list[str] = []
    while isinstance(tree, Mapping):
        here = ".".join([*opened, ""]) if opened else ""
        if any(key in target or key == "register_tokens" for key in tree):
            state = {key: value for key, value in tree.items() if isinstance(value, Tensor)}
            return state, opened, outside, remarks
        branches = [name for name in WRAPPINGS if any(_is_inside(key, name) for key in tree)]
        if not branches:
            outside += [here + key for key in _tensor_keys(tree)]
            break
        name = branches[0]
        if name == "teacher" and "student" in branches:
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


def _tensor_keys(tree: Any, prefix: str = "") -> list[str]:
    """Dotted keys of the tensors in a tree; an optimizer's state, keyed by numbers, is no model and is left out."""
    found = []
    for key, value in tree.items():
        if isinstance(value, Tensor):
            found.append(f"{prefix}{key}")
        elif isinstance(value, Mapping) and all(isinstance(k, str) for k in value) and "param_groups" not in value:
            found += _tensor_keys(value, f"{prefix}{key}.")
    return found


def _to_timm_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A state dict with timm's names, and for each renamed key its name in the file.

    DINOv2 saves blocks in chunks, ``blocks.<chunk>.<block>.``, where the block's number already counts from the
    first chunk. MAE's decoder is dropped, its mask token with it: timm would take that token as a sign of DINOv2.
    """
    source: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for key, value in state.items():
        if key.startswith("decoder") or key in ("mask_token", "masked_embed"):
            continue
        name = re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", key)
        source[name] = value
        names[name] = key
    if "register_tokens" in source or any(".mlp.w12." in key for key in source):
        source["mask_token"] = torch.zeros(1)  # what makes timm convert DINOv2's names; it drops it again
    return source, names


def _resampled(source: Mapping[str, Tensor], encoder: Encoder) -> list[str]:
    """Remarks on what timm's filter is about to resample; it does so without a word."""
    remarks = []
    patch, tokens = source.get("patch_embed.proj.weight"), source.get("pos_embed")
    if patch is not None and patch.ndim == 4 and patch.shape[-1] != encoder.patch_size:
        remarks.append(f"patch embedding resampled from {patch.shape[-1]} to {encoder.patch_size} px by timm")
    here = encoder.model.pos_embed
    if tokens is not None and here is not None and tokens.ndim == 3:
        extra = 1 if "register_tokens" in source else 0 if encoder.model.no_embed_class else encoder.prefix
        skip = 0 if encoder.model.no_embed_class else encoder.prefix
        old, new = round((tokens.shape[1] - extra) ** 0.5), round((here.shape[1] - skip) ** 0.5)
        if old != new:
            remarks.append(f"positions resampled from {old}x{old} to {new}x{new} by timm (bicubic, antialias)")
    return remarks


def _check_filled(
    path: Path, arch: str, source: Mapping[str, Tensor], filtered: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> None:
    """Refuse what does not fill ``target`` exactly; the message says what the file looks like."""
    found = _looks_like(source)
    shapes = [key for key in target if key in filtered and filtered[key].shape != target[key].shape]
    if shapes:
        key = shapes[0]
        raise SslkitError(
            f"{path} is of another architecture than {arch}: {key} is {tuple(filtered[key].shape)} in the file and "
            f"{tuple(target[key].shape)} in the encoder ({len(shapes)} keys differ; the file {found}); name its --arch"
        )
    missing = [key for key in target if key not in filtered]
    if missing:
        raise SslkitError(
            f"{path} does not fill {arch}: {len(missing)} of {len(target)} keys are missing: "
            f"{_some(missing)} (the file {found}); name its --arch"
        )
    foreign = [key for key in filtered if key not in target and ENCODER_KEYS.match(key)]
    if foreign:
        raise SslkitError(
            f"{path} is of another architecture than {arch}: it has {len(foreign)} keys of an encoder that {arch} "
            f"lacks: {_some(foreign)} (the file {found}); name its --arch"
        )


def _looks_like(source: Mapping[str, Tensor]) -> str:
    """The size of the ViT in a state dict, in words."""
    patch = source.get("patch_embed.proj.weight")
    depth = len({key.split(".")[1] for key in source if key.startswith("blocks.")})
    if patch is None or not depth:
        return f"has {len(source)} keys"
    return f"has width {patch.shape[0]}, {depth} blocks, patch {patch.shape[-1]}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def save_encoder(
    encoder: Encoder, weights_path: Path, info_path: Path, branch: Literal["student", "teacher", "timm"]
) -> None:
    """Write an encoder so that plain timm loads it: ``timm.create_model(arch, **timm_kwargs)``, then strictly.

    The same weights give the same bytes. Each file appears whole or not at all, the weights first.
    """
    save_weights(encoder, weights_path)
    write_json(info_path, encoder.info(branch))


def save_weights(encoder: Encoder, path: Path) -> None:
    """Write an encoder's weights alone, by timm's key names, whole or not at all."""
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.model.state_dict().items()}
    with atomic(path) as handle:
        handle.write(safetensors.torch.save(state, metadata={"format": "pt"}))


def load_encoder(weights_path: Path, info_path: Path) -> Encoder:
    """The encoder that ``save_encoder`` wrote, in eval mode, without drop path.

    Raises:
        SslkitError: the two files do not belong together.
    """
    try:
        encoder = Encoder.from_info(read_json(info_path))
    except (ValueError, KeyError, TypeError) as error:
        raise SslkitError(f"{info_path} is no encoder.json of sslkit ({error}); pretrain writes it") from error
    load_checkpoint(encoder, weights_path)
    return encoder.eval()
