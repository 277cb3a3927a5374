"""Published checkpoints into an encoder.

A checkpoint is a tree: ``{"teacher": {"module.backbone.blocks.0...": ...}, "optimizer": ...}``. Its layout is
recognised, its containers are opened one at a time until keys of the encoder are on top, and those are renamed to
timm's names, resampled to the encoder's grid (``resample_positions``), and compared key by key and shape by shape.
Half a match is refused: an encoder that is partly random gives plausible, wrong features.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sslkit import registry
from sslkit.artifacts import read_json
from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError, named
from sslkit.weights.adapt_channels import RGB, adapt_channels
from sslkit.weights.architecture import spec_of_shapes
from sslkit.weights.checkpoint import Checkpoint, open_checkpoint, tensors_in
from sslkit.weights.coverage import Coverage
from sslkit.weights.layouts.base import Layout
from sslkit.weights.resample_positions import resample_positions

LAYOUTS = "sslkit.weights.layouts"
Branch = Literal["student", "teacher"]
BRANCHES = get_args(Branch)
# Keys of a file that belong to an encoder: left over, they mean another architecture, not a head or a decoder.
ENCODER_KEYS = re.compile(r"(blocks|patch_embed|norm|norm_pre|fc_norm|cls_token|pos_embed|reg_token|dist_token)(\.|$)")


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


@dataclass(frozen=True)
class Unwrapped:
    """An encoder found in a checkpoint.

    Attributes:
        layout: of the checkpoint.
        state: its tensors under the names that they have inside the containers.
        opened: the containers, outermost first.
        outside: dotted keys of the tensors around them.
        remarks: which branch was taken.
    """

    layout: Layout
    state: dict[str, Tensor]
    opened: list[str]
    outside: list[str]
    remarks: list[str]

    @property
    def prefix(self) -> str:
        """Of the encoder's dotted keys."""
        return ".".join([*self.opened, ""]) if self.opened else ""


def load_checkpoint(encoder: Encoder, file: Path | Checkpoint, branch: Branch | None = None) -> Coverage:
    """Fill an encoder's timm model from a published checkpoint, whatever its layout.

    Args:
        encoder: of the architecture that the file holds.
        file: the checkpoint.
        branch: whose encoder it is, where a file holds two; the teacher's by default.

    Returns:
        Which keys were used and which were not.

    Raises:
        SslkitError: unreadable file, one that does not fill the encoder completely, or one without that branch.
    """
    target: dict[str, Tensor] = encoder.model.state_dict()
    checkpoint = open_checkpoint(file) if isinstance(file, Path) else file
    found, name = unwrapped(checkpoint, target, branch), checkpoint.name
    if branch and branch not in found.opened:
        raise SslkitError(f"{name} holds no encoder of a {branch}")
    if not found.state:
        raise SslkitError(
            f"{name} holds no encoder: none of its keys is one of {encoder.spec.arch}'s "
            f"(it has {', '.join(found.outside[:3]) or 'no tensors'}); is --arch right?"
        )
    _check_tensors(name, found, target)
    source, adapting = adapt_channels(name, found.layout.to_timm(found.state), encoder)
    filtered, remarks = source, [*found.remarks, *adapting]
    if encoder.vit:
        _check_resampled(name, source)
        filtered, resampling = resample_positions(name, source, encoder)
        remarks += resampling
    _check_filled(name, encoder.spec.arch, f"read as {found.layout.title}, {_looks_like(source)}", filtered, target)
    encoder.model.load_state_dict({key: filtered[key] for key in target}, strict=True)
    used = {key for key in found.state if found.layout.timm_name(key) in target}
    return Coverage(
        file=Path(name).name,
        layout=found.layout.title,
        path=tuple(found.opened),
        used=sorted(found.prefix + key for key in used),
        unused=sorted([*found.outside, *(found.prefix + key for key in found.state.keys() - used)]),
        missing=[],
        remarks=remarks,
    )


def spec_of(checkpoint: Checkpoint) -> tuple[dict[str, Any], list[str]]:
    """Arguments of ``EncoderSpec`` by the file's own description, else by its shapes; remarks on what was assumed.

    Returns:
        Empty where neither tells.

    Raises:
        SslkitError: a description of something that timm does not have.
    """
    found = unwrapped(checkpoint, ("patch_embed.proj.weight", "pos_embed", "cls_token"))
    try:
        spec = found.layout.spec(checkpoint.about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SslkitError(f"the description next to {checkpoint.name} is not one of a model ({error!r})") from error
    state = found.layout.to_timm(found.state)
    remarks: list[str] = []
    if not spec:
        _check_resampled(checkpoint.name, state)
        spec, remarks = spec_of_shapes(state)
    patch = state.get("patch_embed.proj.weight")
    if spec and patch is not None and patch.ndim == 4 and patch.shape[1] != RGB:
        spec = {**spec, "channels": int(patch.shape[1])}
    return spec, remarks


def unwrapped(checkpoint: Checkpoint, target: Collection[str], branch: Branch | None = None) -> Unwrapped:
    """The layout in which a checkpoint holds most of an encoder's keys; of equals, one that recognises it.

    Args:
        checkpoint: a file.
        target: timm's names of tensors of the encoder.
        branch: the only one that is opened.
    """
    layouts: list[Layout] = [registry.load(LAYOUTS, name)() for name in registry.names(LAYOUTS)]
    keys = list(checkpoint.tensors())
    recognised = [layout for layout in layouts if layout.recognises(keys, checkpoint.about)]
    plain = [layout for layout in layouts if layout.sign is None]
    found = [_unwrap(checkpoint.tree, layout, target, branch) for layout in [*recognised, *plain]]
    return max(found, key=lambda one: len({one.layout.timm_name(key) for key in one.state} & set(target)))


def _unwrap(tree: Any, layout: Layout, target: Collection[str], branch: Branch | None) -> Unwrapped:
    """Open containers until keys of ``target`` lie on top."""
    containers = [name for name in layout.containers if branch is None or name not in BRANCHES or name == branch]
    opened: list[str] = []
    outside: list[str] = []
    remarks: list[str] = []
    while isinstance(tree, Mapping):
        here = ".".join([*opened, ""]) if opened else ""
        if any(isinstance(key, str) and layout.timm_name(key) in target for key in tree):
            state = {key: value for key, value in tree.items() if isinstance(key, str) and isinstance(value, Tensor)}
            return Unwrapped(layout, state, opened, outside, remarks)
        found = [name for name in containers if any(_is_inside(key, value, name) for key, value in tree.items())]
        if not found:
            outside += [here + key for key in tensors_in(tree)]
            break
        name = found[0]
        if name in BRANCHES and {*BRANCHES} <= {*found}:
            remarks.append(f"holds teacher and student: the {name} is used")
        outside += [here + k for k in tensors_in({k: v for k, v in tree.items() if not _is_inside(k, v, name)})]
        if isinstance(tree.get(name), Mapping):
            tree = tree[name]
        else:
            inside = {key: value for key, value in tree.items() if _is_inside(key, value, name)}
            tree = {key.removeprefix(f"{name}."): value for key, value in inside.items()}
        opened.append(name)
    return Unwrapped(layout, {}, opened, outside, remarks)


def _is_inside(key: Any, value: Any, name: str) -> bool:
    """Whether an entry is a container, or has its name as a prefix; a container that holds no mapping is none."""
    return isinstance(key, str) and (isinstance(value, Mapping) if key == name else key.startswith(f"{name}."))


def _check_tensors(name: str, found: Unwrapped, target: Mapping[str, Tensor]) -> None:
    """Refuse tensors of the encoder that no training run writes, before anything is computed with them."""
    for key, value in found.state.items():
        timm_name = found.layout.timm_name(key)
        if timm_name is None or not (timm_name in target or ENCODER_KEYS.match(timm_name)):
            continue
        counter = timm_name in target and not target[timm_name].is_floating_point()  # BatchNorm counts its batches
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            what = "is sparse, quantized or without content"
        elif not value.is_floating_point() and not counter:
            what = f"is of type {str(value.dtype).removeprefix('torch.')}, not of a floating-point type"
        elif not torch.isfinite(value.float()).all():
            what = "holds values that are not finite (NaN or infinity)"
        else:
            continue
        raise SslkitError(f"{name} cannot be used: its tensor {found.prefix}{key} {what}")


def _check_resampled(name: str, source: Mapping[str, Tensor]) -> None:
    """Refuse shapes that no ViT has in the two tensors that are resampled, before they are."""
    patch, positions = source.get("patch_embed.proj.weight"), source.get("pos_embed")
    wrong = None
    if patch is not None and (0 in patch.shape or not (patch.ndim == 2 or _is_kernel(patch))):
        wrong = ("patch_embed.proj.weight", patch, "(width, channels, patch, patch)")
    elif positions is not None and (0 in positions.shape or positions.ndim != 3):
        wrong = ("pos_embed", positions, "(1, tokens, width)")
    if wrong:
        key, tensor, shape = wrong
        raise SslkitError(f"{name} cannot be used: its {key} has the shape {tuple(tensor.shape)}, not {shape}")


def _is_kernel(patch: Tensor) -> bool:
    return patch.ndim == 4 and patch.shape[2] == patch.shape[3]


def _check_filled(
    path: str, arch: str, found: str, filtered: Mapping[str, Tensor], target: Mapping[str, Tensor]
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
            f"{named(missing, 4)} ({found}); name its --arch"
        )
    foreign = [key for key in filtered if key not in target and ENCODER_KEYS.match(key)]
    if foreign:
        raise SslkitError(
            f"{path} is of another architecture than {arch}: it has {len(foreign)} keys of an encoder that {arch} "
            f"lacks: {named(foreign, 4)} ({found}); name its --arch"
        )


def _looks_like(source: Mapping[str, Tensor]) -> str:
    """The size of the ViT in a state dict, in words."""
    patch = source.get("patch_embed.proj.weight")
    depth = len({key.split(".")[1] for key in source if key.startswith("blocks.")})
    if patch is None or not depth:
        return f"the file has {len(source)} keys"
    return f"the file has width {patch.shape[0]}, {depth} blocks, patch {patch.shape[-1]}"
