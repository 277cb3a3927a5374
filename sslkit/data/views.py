"""Views of an image: where each crop lies, how it is flipped, and how its colours will change.

Every number comes from (seed, epoch, sample, view), drawn here, in the loader's process. The geometric part is cut
at once as uint8; the photometric part is only drawn, and applied to whole batches on the training device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit import rng
from sslkit.errors import UsageError
from sslkit.recipe import CropSection, Probability, ViewsSection

TRIES = 10  # boxes drawn before a crop falls back on the whole image, cut to an allowed aspect
SLOTS = 2 * TRIES + 2 + 1 + 10  # uniform numbers a view uses: boxes, position, flip, photometric

# Columns of a photometric draw: what `augment.photometric` reads.
PHOTOMETRIC = ("jitter", "brightness", "contrast", "saturation", "hue", "order", "gray", "blur", "solarize")


@dataclass(frozen=True)
class Group:
    """Views of one size, cut alike."""

    count: int
    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]


@dataclass(frozen=True)
class Batch:
    """A micro-batch as the loader hands it over.

    Attributes:
        samples: (B,) int64 indices in the dataset, on the host.
        labels: (B,) int64, -1 = unlabelled.
        crops: for each group of views (V, B, 3, S, S) uint8.
        photometric: for each group (V, B, P) float32 on the host, columns as in ``PHOTOMETRIC``.
    """

    samples: Tensor
    labels: Tensor
    crops: list[Tensor]
    photometric: list[Tensor]

    def pin_memory(self) -> "Batch":
        """Called by the loader, so that copies to the device need not wait."""
        return Batch(self.samples, self.labels, [c.pin_memory() for c in self.crops], self.photometric)

    def to(self, device: torch.device) -> "Batch":
        """Pixels and labels on the device; indices and draws stay on the host, which reads them."""
        crops = [c.to(device, non_blocking=True) for c in self.crops]
        return Batch(self.samples, self.labels.to(device, non_blocking=True), crops, self.photometric)


class ViewMaker:
    """Draws and cuts the views of images.

    Args:
        section: the recipe's ``views``.
        image_size: pixels, the default size of global crops.
        patch_size: pixels; every crop's side must be a multiple of it. 1 for a model that is no ViT.
        seed: the run's.

    Raises:
        UsageError: a crop that patches do not divide, or no global crop.
    """

    def __init__(self, section: ViewsSection, image_size: int, patch_size: int, seed: int):
        self.seed = seed
        local_size = section.local.size or max(1, round(image_size * 3 / 7 / patch_size)) * patch_size
        self.groups = [_group(section.global_, section.global_.size or image_size)]
        if section.local.count:
            self.groups.append(_group(section.local, local_size))
        if not section.global_.count:
            raise UsageError("views.global.count must be at least 1")
        for group in self.groups:
            if group.size % patch_size:
                raise UsageError(f"patch size {patch_size} does not divide the {group.size} pixels of a crop")
        self.augment = section.augment
        self._global_views, self._views = self.groups[0].count, sum(g.count for g in self.groups)
        a = section.augment
        self._probability = {
            name: self._per_view(getattr(a, name), name) for name in ("flip", "jitter", "gray", "blur", "solarize")
        }
        self._scale = np.repeat([g.scale for g in self.groups], [g.count for g in self.groups], axis=0)
        self._ratio = np.repeat([g.ratio for g in self.groups], [g.count for g in self.groups], axis=0)

    def _per_view(self, value: Probability, name: str) -> np.ndarray:
        """One probability for each view; a list is for the global crops in turn and, last, the local ones."""
        if isinstance(value, list):
            if len(value) != self._global_views + 1:
                raise UsageError(
                    f"views.augment.{name} lists {len(value)} probabilities: {self._global_views} global crops and the "
                    f"local ones need {self._global_views + 1}"
                )
            value = value[:-1] + value[-1:] * (self._views - self._global_views)
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (self._views,))

    def __call__(self, image: Tensor, epoch: int, sample: int) -> tuple[list[Tensor], list[np.ndarray]]:
        """Views of one image.

        Args:
            image: (3, H, W) uint8.
            epoch: from 0.
            sample: the image's index in the dataset.

        Returns:
            For each group (V, 3, S, S) uint8, and (V, P) float32.
        """
        u = rng.generator(self.seed, "views", epoch, sample).random((self._views, SLOTS))
        boxes = boxes_from(u[:, : 2 * TRIES + 2], image.shape[1], image.shape[2], self._scale, self._ratio)
        flips = u[:, 2 * TRIES + 2] < self._probability["flip"]
        draws = self._photometric(u[:, 2 * TRIES + 3 :])
        crops, photometric, first = [], [], 0
        for group in self.groups:
            views = range(first, first + group.count)
            crops.append(torch.stack([cut(image, boxes[v], bool(flips[v]), group.size) for v in views]))
            photometric.append(draws[first : first + group.count])
            first += group.count
        return crops, photometric

    def _photometric(self, u: np.ndarray) -> np.ndarray:
        """(V, 10) uniform numbers -> (V, P), see ``PHOTOMETRIC``."""
        a, p = self.augment, self._probability
        strength = np.array(a.jitter_strength)
        factors = np.maximum(0, 1 + strength[:3] * (2 * u[:, 1:4] - 1))
        low, high = a.blur_sigma
        columns = [
            u[:, 0] < p["jitter"],
            *factors.T,
            strength[3] * (2 * u[:, 4] - 1),  # hue shift in turns
            np.floor(u[:, 5] * 24),  # which of the 4! orders of the four operations
            u[:, 6] < p["gray"],
            np.where(u[:, 7] < p["blur"], low + (high - low) * u[:, 8], 0),  # sigma in pixels, 0 = none
            u[:, 9] < p["solarize"],
        ]
        return np.stack(columns, 1).astype(np.float32)


def _group(section: CropSection, size: int) -> Group:
    low, high = section.scale
    if not 0 < low <= high <= 1:
        raise UsageError(f"a crop's scale {list(section.scale)} must be two rising shares of the area in (0, 1]")
    return Group(section.count, size, section.scale, section.ratio)


def boxes_from(u: np.ndarray, height: int, width: int, scale: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Random resized crops (arXiv:1409.4842): area uniform, aspect log-uniform, place uniform.

    Args:
        u: (V, 2 x TRIES + 2) uniform numbers in [0, 1).
        height: of the image, pixels.
        width: of the image, pixels.
        scale: (V, 2) share of the area.
        ratio: (V, 2) width / height.

    Returns:
        (V, 4) int: top, left, height, width. The first of TRIES boxes that fits; else the largest centred one.
    """
    area = height * width * (scale[:, :1] + (scale[:, 1:] - scale[:, :1]) * u[:, :TRIES])
    low, high = np.log(ratio[:, :1]), np.log(ratio[:, 1:])
    aspect = np.exp(low + (high - low) * u[:, TRIES : 2 * TRIES])
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.argmax(1)
    rows = np.arange(len(u))
    w, h = widths[rows, first], heights[rows, first]
    top = np.floor(u[:, 2 * TRIES] * (height - h + 1))
    left = np.floor(u[:, 2 * TRIES + 1] * (width - w + 1))
    boxes = np.stack([top, left, h, w], 1).astype(np.int64)
    for view in np.flatnonzero(~fits.any(1)):
        shape = width / height
        w0 = width if shape <= ratio[view, 1] else max(1, round(height * ratio[view, 1]))
        h0 = height if shape >= ratio[view, 0] else max(1, round(width / ratio[view, 0]))
        boxes[view] = ((height - h0) // 2, (width - w0) // 2, h0, w0)
    return boxes


def cut(image: Tensor, box: Sequence[int] | np.ndarray, flip: bool, size: int) -> Tensor:
    """Crop, resize to (3, size, size) with antialiased bicubic weights in uint8, flip.

    Args:
        image: (3, H, W) uint8.
        box: top, left, height, width.
        flip: left to right.
        size: pixels.
    """
    top, left, height, width = (int(value) for value in box)
    crop = image[:, top : top + height, left : left + width]
    if (height, width) != (size, size):
        crop = F.interpolate(crop[None], (size, size), mode="bicubic", antialias=True, align_corners=False)[0]
    return crop.flip(-1) if flip else crop


def center_crop(image: Tensor, size: int) -> Tensor:
    """The view that evaluation sees: shorter side resized, then the centre.

    From 128 pixels on 1/8 of the side is cut away (256 -> 224, as the papers do); smaller images are kept whole.

    Args:
        image: (3, H, W) uint8.
        size: pixels.
    """
    shorter = round(size / 0.875) if size >= 128 else size
    height, width = image.shape[1:]
    factor = shorter / min(height, width)
    if factor != 1:
        new = (max(size, round(height * factor)), max(size, round(width * factor)))
        image = F.interpolate(image[None], new, mode="bicubic", antialias=True, align_corners=False)[0]
    top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
    return image[:, top : top + size, left : left + size]
