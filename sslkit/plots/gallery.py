"""Attention of many images: a sheet each, the numbers, and one page that shows them all."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.device import Precision, autocast
from sslkit.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from sslkit.errors import SslkitError, UsageError
from sslkit.files import atomic
from sslkit.plots.attention import (
    Portrait,
    draw_sheet,
    head_mask_tiles,
    head_tiles,
    mask_tiles,
    model_size,
    percent,
    summary_tiles,
)
from sslkit.plots.hidden import hide, strategies
from sslkit.plots.page import Section, render, render_section
from sslkit.plots.sheet import Tile


@dataclass(frozen=True)
class Look:
    """How images are looked at.

    Attributes:
        shorter: shorter side in pixels at which an image enters the encoder.
        keep: share of the attention's mass in the masks.
        mask_ratio: also draw what each masking strategy would hide, this share of the patches; None draws none.
        device: where the encoder is.
        precision: of its matrix products; attention is float32 in any case.
        mean: of each colour channel, as the encoder was trained with.
        std: likewise.
    """

    shorter: int
    keep: float = 0.6
    mask_ratio: float | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@torch.inference_mode()
def attend(encoder: Encoder, image: Tensor, look: Look) -> Tensor:
    """The last block's attention from CLS to the patches of one image.

    Args:
        encoder: in eval mode, on ``look.device``.
        image: (3, H, W) uint8, of any size.
        look: at what size and precision.

    Returns:
        (heads, h, w) float32 on the CPU.

    Raises:
        SslkitError: the model has no CLS attention, or its attention is not finite.
    """
    if not encoder.vit:
        raise SslkitError(f"{encoder.spec.arch} is no ViT: it has no CLS attention to draw; attn-viz needs a ViT")
    height, width = model_size(image.shape[1], image.shape[2], look.shorter, encoder.patch_size)
    # Resized as bytes on the CPU: a large photo never becomes float.
    small = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True).to(look.device)
    mean, std = (torch.tensor(v, device=look.device)[:, None, None] for v in (look.mean, look.std))
    try:
        with autocast(look.device, look.precision):
            row = encoder((small / 255 - mean) / std, attention=True).attention
    except UsageError as error:
        # The command was right; the model cannot do it.
        raise SslkitError(f"{error}; attn-viz needs a ViT with a CLS token") from error
    assert row is not None
    if not row.isfinite().all():
        raise SslkitError(f"the attention of {encoder.spec.arch} is not finite: its weights hold NaN or infinity")
    return row[0].float().cpu().view(-1, *encoder.grid(height, width))


def draw_gallery(
    encoder: Encoder, images: Iterable[tuple[str, Tensor]], folder: Path, look: Look, about: Sequence[str] = ()
) -> dict[str, int | str]:
    """Write a sheet per image, ``maps.npz`` and ``index.html`` into a folder.

    ``maps.npz`` holds ``names`` (n,) and ``maps`` (n, heads, h, w) float32; where the images' grids differ,
    ``map_0000``, ``map_0001``, ... (heads, h, w) in the order of ``names`` instead.

    Args:
        encoder: in eval mode, on ``look.device``.
        images: names and (3, H, W) uint8 pictures; taken one by one.
        folder: written to.
        look: at what size, with which masks.
        about: lines for the head of the page.

    Returns:
        ``images`` and ``heads``, their numbers, and ``page``, its file name.
    """
    maskings = strategies(look.mask_ratio) if look.mask_ratio is not None else {}
    names: list[str] = []
    maps: list[Tensor] = []
    sections: list[str] = []
    for number, (name, image) in enumerate(images):
        portrait = Portrait(name, image, attend(encoder, image, look), look.keep)
        groups = _groups(portrait)
        if maskings:
            groups.append(("hidden by each masking", mask_tiles(portrait, hide(maskings, portrait.mean, number))))
        sheet = f"{number:04d}-{_file_name(name)}.png"
        with atomic(folder / sheet) as handle:
            draw_sheet([tiles for _, tiles in groups]).save(handle, "PNG")
        sections.append(render_section(Section(name, sheet, groups)))
        names.append(name)
        maps.append(portrait.maps)
    if not names:
        raise SslkitError("no image to look at: name photos with --images, or prepare data with a val split")
    _save_maps(folder / "maps.npz", names, maps)
    title = f"Attention of {encoder.spec.arch}"
    with atomic(folder / "index.html") as handle:
        handle.write(render(title, [*about, _legend(look)], sections).encode())
    return {"images": len(names), "heads": maps[0].shape[0], "page": "index.html"}


def _groups(portrait: Portrait) -> list[tuple[str, Sequence[Tile]]]:
    return [
        ("mean of the heads", summary_tiles(portrait)),
        ("each head", head_tiles(portrait)),
        (f"each head, the patches with {percent(portrait.keep)} of its mass", head_mask_tiles(portrait)),
    ]


def _legend(look: Look) -> str:
    text = (
        "Each map is the attention of the last block from CLS to the patches, one square per patch, dark blue at 0 and "
        f"yellow at the map's own maximum. A mask keeps the fewest patches that hold {percent(look.keep)} of the mass."
    )
    if look.mask_ratio is not None:
        text += f" Maskings hide {percent(look.mask_ratio)} of the patches: what is grey is not shown to the student."
    return text


def _save_maps(path: Path, names: Sequence[str], maps: Sequence[Tensor]) -> None:
    equal = len({m.shape for m in maps}) == 1
    arrays: dict[str, Any] = {"maps": torch.stack(list(maps)).numpy()} if equal else {}
    if not equal:
        arrays = {f"map_{number:04d}": values.numpy() for number, values in enumerate(maps)}
    with atomic(path) as handle:
        np.savez(handle, names=np.array(names), **arrays)


def _file_name(name: str) -> str:
    """A name that any file system and any URL takes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "image"
