"""Views of an image: where each crop lies, how it is flipped, and how its colours will change.

Every number comes from (seed, epoch, sample, view), drawn here, in the loader's process. The geometric part is cut
at once as uint8; the photometric part is only drawn, and applied to whole batches on the training device. Rotation by
right angles is geometric: cut with the crop, so that the mask of an image's object turns with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit import rng
from sslkit.errors import UsageError
from sslkit.recipe.sections import AugmentSection, CropSection, Probability, ViewsSection

TRIES = 10  # boxes drawn before a crop falls back on the whole image, cut to an allowed aspect
SLOTS = 2 * TRIES + 2 + 1 + 10  # uniform numbers a view uses: boxes, position, flip, photometric

# Columns of a photometric draw: what `augment.photometric` reads.
PHOTOMETRIC = (
    *("jitter", "brightness", "contrast", "saturation", "hue", "order", "gray", "blur", "solarize"),
    *("noise", "noise_seed", "sobel", "cutout", "cutout_top", "cutout_left"),
)
# Uniform numbers of the operations that came later, the first being the coin. Each operation has a stream of its own:
# a wider table would shift the numbers of all later views.
OWN_SLOTS = {"rotate": 2, "noise": 3, "sobel": 1, "cutout": 4}


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
        objects: (V, B, S, S) uint8, the share of each pixel of the global crops (the first group) that lies on the
            image's object, times 255; None when the data has no masks or nobody asked for them.
    """

    samples: Tensor
    labels: Tensor
    crops: list[Tensor]
    photometric: list[Tensor]
    objects: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Called by the loader, so that copies to the device need not wait."""
        objects = None if self.objects is None else self.objects.pin_memory()
        return replace(self, crops=[c.pin_memory() for c in self.crops], objects=objects)

    def to(self, device: torch.device) -> "Batch":
        """Pixels, objects and labels on the device; indices and draws stay on the host, which reads them."""
        crops = [c.to(device, non_blocking=True) for c in self.crops]
        objects = None if self.objects is None else self.objects.to(device, non_blocking=True)
        return replace(self, labels=self.labels.to(device, non_blocking=True), crops=crops, objects=objects)


class ViewMaker:
    """Draws and cuts the views of images.

    Args:
        section: the recipe's ``views``.
        image_size: pixels, the default size of global crops.
        patch_size: pixels; every crop's side must be a multiple of it. 1 for a model that is no ViT.
        seed: the run's.

    Raises:
        UsageError: a crop that patches do not divide, no global crop, or a range of an augmentation that cannot be.
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
                raise UsageError(
                    f"patch size {patch_size} does not divide the {group.size} pixels of a crop: set "
                    f"views.global.size or views.local.size to a multiple"
                )
        self.augment = _checked(section.augment)
        self._global_views, self._views = self.groups[0].count, sum(g.count for g in self.groups)
        names = ("flip", "jitter", "gray", "blur", "solarize", *OWN_SLOTS)
        self._probability = {name: self._per_view(getattr(section.augment, name), name) for name in names}
        self._own = {name for name in OWN_SLOTS if self._probability[name].any()}  # of the others nothing is drawn
        self._sizes = np.repeat([g.size for g in self.groups], [g.count for g in self.groups])
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
        u = self._numbers(epoch, sample)
        places = self._places(u, image.shape[1], image.shape[2], epoch, sample)
        draws = np.concatenate([self._photometric(u[:, 2 * TRIES + 3 :]), self._later(epoch, sample)], 1)
        crops, photometric, first = [], [], 0
        for group in self.groups:
            views = slice(first, first + group.count)
            crops.append(torch.stack([cut(image, box, flip, group.size, turns) for box, flip, turns in places[views]]))
            photometric.append(draws[views])
            first += group.count
        return crops, photometric

    def objects(self, mask: Tensor, epoch: int, sample: int) -> Tensor:
        """The mask of an image's object, cut by the very boxes, flips and turns of the image's global crops.

        Args:
            mask: (H, W) uint8, 255 on the object, 0 elsewhere; as large as the image.
            epoch: from 0.
            sample: the image's index in the dataset.

        Returns:
            (V, S, S) uint8: the share of each pixel that lies on the object, times 255.
        """
        group = self.groups[0]
        height, width = mask.shape
        places = self._places(self._numbers(epoch, sample), height, width, epoch, sample)[: group.count]
        # Bilinear: its weights are never negative, so that shares do not ring beside an edge.
        return torch.cat([cut(mask[None], box, flip, group.size, turns, "bilinear") for box, flip, turns in places])

    def _numbers(self, epoch: int, sample: int) -> np.ndarray:
        """(V, SLOTS) uniform numbers in [0, 1)."""
        return rng.generator(self.seed, "views", epoch, sample).random((self._views, SLOTS))

    def _own_numbers(self, name: str, epoch: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Which views an operation touches, (V,) bool, and the rest of its own uniform numbers, (slots, V)."""
        u = rng.generator(self.seed, f"views-{name}", epoch, sample).random((self._views, OWN_SLOTS[name])).T
        return u[0] < self._probability[name], u[1:]

    def _places(
        self, u: np.ndarray, height: int, width: int, epoch: int, sample: int
    ) -> list[tuple[np.ndarray, bool, int]]:
        """Box, flip, and quarter turns of every view."""
        boxes = boxes_from(u[:, : 2 * TRIES + 2], height, width, self._scale, self._ratio)
        flips = u[:, 2 * TRIES + 2] < self._probability["flip"]
        turns = np.zeros(self._views, np.int64)
        if "rotate" in self._own:
            on, (which,) = self._own_numbers("rotate", epoch, sample)
            turns = np.where(on, 1 + np.floor(3 * which), 0).astype(np.int64)
        return [(boxes[v], bool(flips[v]), int(turns[v])) for v in range(self._views)]

    def _later(self, epoch: int, sample: int) -> np.ndarray:
        """(V, 6): noise, Sobel and cutout, the last columns of ``PHOTOMETRIC``; zeros for what is off."""
        a, own = self.augment, np.zeros((6, self._views))
        if "noise" in self._own:
            on, (level, seed) = self._own_numbers("noise", epoch, sample)
            own[0] = np.where(on, a.noise_sigma[0] + (a.noise_sigma[1] - a.noise_sigma[0]) * level, 0)
            own[1] = np.floor(seed * 2**24)  # float32 holds it exactly
        if "sobel" in self._own:
            own[2] = self._own_numbers("sobel", epoch, sample)[0]
        if "cutout" in self._own:
            on, (share, down, right) = self._own_numbers("cutout", epoch, sample)
            share = a.cutout_area[0] + (a.cutout_area[1] - a.cutout_area[0]) * share
            side = np.rint(np.sqrt(share) * self._sizes).clip(1)  # pixels
            own[3:] = np.where(on, side, 0), *np.floor(np.stack([down, right]) * (self._sizes - side + 1))
        return own.T.astype(np.float32)

    def _photometric(self, u: np.ndarray) -> np.ndarray:
        """(V, 10) uniform numbers -> (V, 9): the first columns of ``PHOTOMETRIC``."""
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


def _checked(section: AugmentSection) -> AugmentSection:
    low, high = section.cutout_area
    if not 0 < low <= high <= 1:
        raise UsageError(f"views.augment.cutout_area {[low, high]} must be two rising shares of the area in (0, 1]")
    low, high = section.noise_sigma
    if not 0 < low <= high:
        raise UsageError(f"views.augment.noise_sigma {[low, high]} must be two rising positive numbers")
    return section


def boxes_from(u: np.ndarray, height: int, width: int, scale: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Random resized crops (arXiv:1409.4842): area uniform, aspect log-uniform, place uniform.

    Args:
        u: (V, 2 x TRIES + 2) uniform numbers in [0, 1).
        height: of the image, pixels.
        width: of the image, pixels.
        scale: (V, 2) share of the area.
        ratio: (V, 2) width / height.

    Returns:
        (V, 4) int: top, left, height, width. The first of TRIES boxes that fits; else, or when the whole area is asked
        for, the largest centred one.
    """
    area = height * width * (scale[:, :1] + (scale[:, 1:] - scale[:, :1]) * u[:, :TRIES])
    low, high = np.log(ratio[:, :1]), np.log(ratio[:, 1:])
    aspect = np.exp(low + (high - low) * u[:, TRIES : 2 * TRIES])
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    # A square of a whole 100 x 101 image would fit by rounding, in one of two places.
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height) & (scale[:, :1] < 1)
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


def cut(
    image: Tensor,
    box: Sequence[int] | np.ndarray,
    flip: bool,
    size: int,
    turns: int = 0,
    mode: Literal["bicubic", "bilinear"] = "bicubic",
) -> Tensor:
    """Crop, resize to (C, size, size) with antialiased weights in uint8, flip, turn.

    Args:
        image: (C, H, W) uint8.
        box: top, left, height, width.
        flip: left to right.
        size: pixels.
        turns: right angles, counterclockwise, after the flip.
        mode: of the weights.
    """
    top, left, height, width = (int(value) for value in box)
    crop = image[:, top : top + height, left : left + width]
    if (height, width) != (size, size):
        crop = F.interpolate(crop[None], (size, size), mode=mode, antialias=True, align_corners=False)[0]
    crop = crop.flip(-1) if flip else crop
    return crop.rot90(turns, (-2, -1)) if turns else crop


def patch_coverage(objects: Tensor, patch_size: int) -> Tensor:
    """The share of each patch that lies on the object.

    Args:
        objects: (V, B, S, S) uint8, ``Batch.objects``.
        patch_size: pixels; divides S.

    Returns:
        (V x B, N) float32 in [0, 1] on the same device, view by view, patches row by row.
    """
    return F.avg_pool2d(objects.flatten(0, 1)[:, None].float(), patch_size).flatten(1).div_(255)
