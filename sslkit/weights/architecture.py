"""Which of timm's architectures a file holds, by its sizes and by the shapes of its tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sslkit.errors import UsageError

# (width, blocks, heads) of timm's sizes.
SIZES = {
    (192, 12, 3): "tiny",
    (384, 12, 6): "small",
    (768, 12, 12): "base",
    (1024, 24, 16): "large",
    (1280, 32, 16): "huge",
    (1408, 40, 16): "giant",
    (1536, 40, 24): "giant",
}
HEAD_WIDTH = 64  # of nearly all published ViTs


def spec_of_sizes(
    family: str, width: int, depth: int, heads: int, patch_size: int, registers: int = 0
) -> dict[str, Any]:
    """Arguments of ``EncoderSpec``: a named size of timm's where there is one, else the smallest with its own sizes.

    Args:
        family: vit or dinov2, whose blocks have layer scale.
        width: D.
        depth: L.
        heads: H.
        patch_size: pixels.
        registers: how many; timm has DINOv2 with 0 and 4.
    """
    size = SIZES.get((width, depth, heads))
    if family == "dinov2":
        named = size in ("small", "base", "large") or width == 1536
        arch = f"vit_{size if named else 'small'}_patch14_{'reg4_' if registers else ''}dinov2"
    else:
        named = size is not None and width != 1536
        large = size in ("huge", "giant")
        arch = f"vit_{size if named else 'tiny'}_patch{14 if large and named else 16}_224"
    sizes = {} if named else {"width": width, "depth": depth, "heads": heads}
    return {"arch": arch, "patch_size": patch_size, **sizes}


def spec_of_shapes(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
    """Arguments of ``EncoderSpec`` from a state dict with timm's names, and remarks on what had to be assumed.

    Returns:
        Empty for a state dict that is not a ViT's.

    Raises:
        UsageError: the number of heads, which no shape tells, cannot be assumed.
    """
    patch = state.get("patch_embed.proj.weight")
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    if patch is None or patch.ndim != 4 or not depth:
        return {}, []
    width, remarks = int(patch.shape[0]), []
    heads = next((h for d, n, h in SIZES if (d, n) == (width, depth)), 0)
    if not heads:
        if width % HEAD_WIDTH:
            raise UsageError(
                f"the file has width {width} and {depth} blocks but does not say how many attention heads: "
                "put the model's encoder.json or config.json next to it, or name its --arch"
            )
        heads = width // HEAD_WIDTH
        remarks.append(f"{heads} attention heads assumed, {HEAD_WIDTH} wide each: the file does not say how many")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    family = "dinov2" if "blocks.0.ls1.gamma" in state else "vit"
    spec = spec_of_sizes(family, width, depth, heads, int(patch.shape[-1]), registers)
    positions = state.get("pos_embed")
    if positions is not None and positions.ndim == 3:
        prefix = 0 if registers else int("cls_token" in state)
        spec["image_size"] = round((positions.shape[1] - prefix) ** 0.5) * int(patch.shape[-1])
    return spec, remarks
