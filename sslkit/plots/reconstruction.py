"""What a masked autoencoder paints where nothing is shown: masked input, reconstruction and original side by side.

The picture of MAE's paper (arXiv:2111.06377, figure 2). A model of normalised pixels knows the pattern of a patch, not
its brightness nor its contrast: for viewing they are taken from the original.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sslkit.data.views import PHOTOMETRIC, Batch
from sslkit.device import Precision, autocast
from sslkit.files import atomic
from sslkit.methods.mae import MaskedAutoencoder, moments, normalised, patchify
from sslkit.plots.attention.maps import shade
from sslkit.plots.sheet import GAP, INK, PAPER, TITLE_SIZE, Tile, compose, fit, to_picture
from sslkit.plots.views import unnormalise
from sslkit.schedules import Moment

TILE = 160  # pixels, the side of a picture on the sheet
ACROSS = 2  # images in a row of the sheet, three pictures each
LINE = 18  # pixels from one line of the legend to the next


@dataclass(frozen=True)
class Shown:
    """An image as it enters the model.

    Attributes:
        name: its title.
        pixels: (3, S, S) uint8, the size that the model was trained at.
        sample: its number, by which its mask is drawn.
        object_mask: (S, S) uint8, 255 on the object; only masks that look for it need one.
    """

    name: str
    pixels: Tensor
    sample: int
    object_mask: Tensor | None = None


@dataclass(frozen=True)
class Painted:
    """B images and what became of them.

    Attributes:
        originals: (B, 3, S, S) uint8.
        masks: (B, N) bool, True = removed.
        pictures: (B, 3, S, S) uint8, the originals with the prediction in the place of removed patches.
        errors: (B,) float64, mean squared error per pixel and channel of the removed patches, in the units of the
            training's target.
        flat_errors: (B,) float64, the same for patches of one colour: what a model without a pattern would reach.
    """

    originals: Tensor
    masks: Tensor
    pictures: Tensor
    errors: np.ndarray
    flat_errors: np.ndarray


def joined(parts: Sequence[Painted], count: int) -> Painted:
    """The first ``count`` images of several batches."""
    return Painted(
        originals=torch.cat([part.originals for part in parts])[:count],
        masks=torch.cat([part.masks for part in parts])[:count],
        pictures=torch.cat([part.pictures for part in parts])[:count],
        errors=np.concatenate([part.errors for part in parts])[:count],
        flat_errors=np.concatenate([part.flat_errors for part in parts])[:count],
    )


@torch.inference_mode()
def paint(method: MaskedAutoencoder, shown: Sequence[Shown], precision: Precision = "fp32") -> Painted:
    """Mask images, and have the model paint what is missing.

    Args:
        method: in eval mode, on its device; its recipe says how masks are drawn, and by which seed.
        shown: B images.
        precision: of the matrix products; errors are of float32 differences.
    """
    device = next(method.parameters()).device
    batch = _batch(shown).to(device)
    with autocast(device, precision):
        crops, masks, painted = method.reconstruct(batch, Moment(0, 1, 1.0))
    patches, found = (patchify(pixels.float(), method.student.patch_size) for pixels in (crops, painted))
    return Painted(
        originals=torch.stack([each.pixels for each in shown]),
        masks=masks.cpu(),
        pictures=unnormalise(painted).cpu(),
        errors=_on_removed(_in_target_units(found - patches, patches, method.config.normalise), masks),
        flat_errors=_on_removed(_flat_difference(patches, masks, method.config.normalise), masks),
    )


def _batch(shown: Sequence[Shown]) -> Batch:
    """The images as one view each that no augmentation touches."""
    objects = [each.object_mask for each in shown if each.object_mask is not None]
    return Batch(
        samples=torch.tensor([each.sample for each in shown]),
        labels=torch.full((len(shown),), -1),
        crops=[torch.stack([each.pixels for each in shown])[None]],
        photometric=[torch.zeros(1, len(shown), len(PHOTOMETRIC))],
        objects=torch.stack(objects)[None] if len(objects) == len(shown) else None,
    )


def _in_target_units(difference: Tensor, patches: Tensor, normalise: bool) -> Tensor:
    """Differences of ImageNet-normalised pixels -> differences of what the model was trained on."""
    return difference / moments(patches)[1] if normalise else difference


def _flat_difference(patches: Tensor, masks: Tensor, normalise: bool) -> Tensor:
    """(B, N, P x P x 3): from each patch's own mean where it is given, else from the mean colour of what is visible."""
    if normalise:
        return normalised(patches)
    pixels = patches.unflatten(-1, (-1, 3))
    seen = (~masks)[:, :, None, None]
    colour = (pixels * seen).sum((1, 2), keepdim=True) / (seen.sum((1, 2), keepdim=True) * pixels.shape[2])
    return (pixels - colour).flatten(2)


def _on_removed(difference: Tensor, masks: Tensor) -> np.ndarray:
    """(B, N, P x P x 3) and (B, N) -> (B,) mean square over removed patches."""
    error = difference.double().square().mean(-1)
    return ((error * masks).sum(1) / masks.sum(1)).cpu().numpy()


def draw_reconstructions(
    names: Sequence[str], painted: Painted, grid: tuple[int, int], legend: Sequence[str], path: Path
) -> None:
    """Write a PNG: for each image what the model sees, what it makes of it, and the original.

    Args:
        names: B titles.
        painted: of B images.
        grid: rows and columns of patches.
        legend: lines below the pictures.
        path: where the PNG goes, whole or not at all.
    """
    rows: list[list[Tile]] = []
    for index, name in enumerate(names):
        if index % ACROSS == 0:
            rows.append([])
        rows[-1] += _tiles(name, painted, index, grid)
    with atomic(path) as handle:
        with_legend(compose(rows), legend).save(handle, "PNG")


def _tiles(name: str, painted: Painted, index: int, grid: tuple[int, int]) -> list[Tile]:
    original, picture = (_enlarged(to_picture(images[index])) for images in (painted.originals, painted.pictures))
    hidden = painted.masks[index].view(grid)
    return [
        Tile(f"{100 * hidden.float().mean():.0f} % removed", shade(original, hidden, strength=1.0)),
        Tile(f"painted, error {painted.errors[index]:.2f}", picture),
        Tile(shortened(name, TILE), original),
    ]


def _enlarged(picture: Image.Image) -> Image.Image:
    """At tile size; small images by whole squares, so that nothing is blended across a patch's border."""
    return fit(picture, TILE, TILE, nearest=picture.width <= TILE // 2)


def shortened(text: str, width: int) -> str:
    """``text``, cut so that it is at most ``width`` pixels wide as a title."""
    font = ImageFont.load_default(TITLE_SIZE)
    while font.getlength(text) > width and len(text) > 1:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def with_legend(sheet: Image.Image, lines: Iterable[str]) -> Image.Image:
    """A sheet with lines of text below it, broken between words where they are wider than it."""
    font, broken = ImageFont.load_default(TITLE_SIZE), list[str]()
    for line in lines:
        broken.append("")
        for word in line.split():
            longer = f"{broken[-1]} {word}".strip()
            if broken[-1] and font.getlength(longer) > sheet.width - 2 * GAP:
                broken.append(word)
            else:
                broken[-1] = longer
    paper = Image.new("RGB", (sheet.width, sheet.height + LINE * len(broken) + GAP), PAPER)
    paper.paste(sheet)
    draw = ImageDraw.Draw(paper)
    for number, line in enumerate(broken):
        draw.text((GAP, sheet.height + LINE * number), line, INK, font)
    return paper


def as_arrays(painted: Painted) -> dict[str, Any]:
    """``original`` and ``painted`` (B, 3, S, S) uint8, ``mask`` (B, N) bool, ``error`` (B,) float64."""
    return {
        "original": painted.originals.numpy(),
        "painted": painted.pictures.numpy(),
        "mask": painted.masks.numpy(),
        "error": painted.errors,
    }
