"""Views of an image: where each crop lies, and what its augmentations are to do.

Every number comes from (seed, epoch, sample, view) and is drawn here, in the loader's process. What moves pixels is
done at once, in uint8; what changes their values is only drawn, and done to whole batches on the training device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sslkit import rng
from sslkit.data.augment import augmentations, photometric_columns
from sslkit.data.augmentations.base import Augmentation, Geometric
from sslkit.data.normalise import statistics
from sslkit.data.resized_crop import NUMBERS, boxes_from, cut
from sslkit.errors import UsageError
from sslkit.recipe.sections import CropSection, Probability, ViewsSection

RGB = 3
SHARED = NUMBERS + 11  # numbers of a view in the stream that boxes share with the oldest augmentations


@dataclass(frozen=True)
class CropGroup:
    """Views of one size, cut alike."""

    count: int
    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]


class Active(NamedTuple):
    """An augmentation that can happen in some view.

    Attributes:
        name: of its file.
        augmentation: with its keys.
        probability: (V,) of each view.
        columns: of the photometric draws; None for a geometric one.
    """

    name: str
    augmentation: Augmentation
    probability: np.ndarray
    columns: slice | None


class Place(NamedTuple):
    """Where a crop lies.

    Attributes:
        box: top, left, height, width.
        moves: geometric augmentations in their order, with the value drawn for each.
    """

    box: list[int]
    moves: list[tuple[type[Geometric], float]]


class ViewMaker:
    """Draws and cuts the views of images.

    Args:
        section: the recipe's ``views``.
        image_size: pixels, the default size of global crops.
        patch_size: pixels; the side of every crop must be a multiple of it. 1 for a model that is not a ViT.
        seed: of the run.
        channels: C of the images.

    Attributes:
        mean: of each channel, by which its views are normalised.
        std: likewise.
        left_out: augmentations that the recipe asks for but that are defined for RGB only.

    Raises:
        UsageError: a crop that patches do not divide, no global crop, or a wrong number of probabilities.
    """

    def __init__(self, section: ViewsSection, image_size: int, patch_size: int, seed: int, channels: int = RGB):
        self.seed = seed
        self.mean, self.std = statistics(channels, section.mean, section.std)
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
        counts = [group.count for group in self.groups]
        self._views = sum(counts)
        self._sizes = np.repeat([g.size for g in self.groups], counts)
        self._scale = np.repeat([g.scale for g in self.groups], counts, axis=0)
        self._ratio = np.repeat([g.ratio for g in self.groups], counts, axis=0)
        active = [active for active in self._augmentations(section) if active.probability.any()]
        self._active = [one for one in active if channels == RGB or not one.augmentation.rgb_only]
        self.left_out = [one.name for one in active if one not in self._active]
        if channels != RGB and any(one.name == "jitter" for one in self._active):
            self.left_out.append("the saturation and hue of jitter")

    def _augmentations(self, section: ViewsSection) -> list[Active]:
        columns, self._columns = photometric_columns()
        return [
            Active(
                name,
                kind(section.augment),
                self._per_view(section.augment.probability(name), name),
                columns.get(name),
            )
            for name, kind in augmentations().items()
        ]

    def _per_view(self, value: Probability, name: str) -> np.ndarray:
        """One probability for each view; a list is for the global crops in turn and, last, the local ones."""
        if isinstance(value, list):
            of_globals = self.groups[0].count
            if len(value) != of_globals + 1:
                raise UsageError(
                    f"views.augment.{name} lists {len(value)} probabilities: {of_globals} global crops and the "
                    f"local ones need {of_globals + 1}"
                )
            value = value[:-1] + value[-1:] * (self._views - of_globals)
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (self._views,))

    def __call__(self, image: Tensor, epoch: int, sample: int) -> tuple[list[Tensor], list[np.ndarray]]:
        """The views of one image.

        Args:
            image: (C, H, W) uint8.
            epoch: from 0.
            sample: the image's index in the dataset.

        Returns:
            For each group (V, C, S, S) uint8, and (V, P) float32 for ``augment.photometric``.
        """
        crops, photometric = self.batch([image], epoch, [sample])
        return [part[:, 0] for part in crops], [part[:, 0] for part in photometric]

    def batch(
        self, images: Sequence[Tensor], epoch: int, samples: Sequence[int]
    ) -> tuple[list[Tensor], list[np.ndarray]]:
        """The views of several images, which cost less together.

        Args:
            images: B of (C, H, W) uint8, which may differ in size.
            epoch: from 0.
            samples: B, the images' indices in the dataset.

        Returns:
            For each group (V, B, C, S, S) uint8, and (V, B, P) float32 for ``augment.photometric``.
        """
        u = self._shared(epoch, samples)
        places = self._places(u, [image.shape[1:] for image in images], epoch, samples)
        draws = np.zeros((len(samples) * self._views, self._columns), np.float32)
        for active in self._active:
            if active.columns is not None:
                draws.T[active.columns] = self._draw(active, u, epoch, samples)
        draws = draws.reshape(len(samples), self._views, -1).swapaxes(0, 1)
        crops, photometric, first = [], [], 0
        for group in self.groups:
            views = range(first, first + group.count)
            cuts = [_moved(i, p[v], group.size) for v in views for i, p in zip(images, places, strict=True)]
            crops.append(torch.stack(cuts).unflatten(0, (group.count, -1)))
            photometric.append(draws[views.start : views.stop])
            first = views.stop
        return crops, photometric

    def objects(self, mask: Tensor, epoch: int, sample: int) -> Tensor:
        """The mask of an image's object, cut and moved exactly as the image's global crops.

        Args:
            mask: (H, W) uint8, 255 on the object, 0 elsewhere; as large as the image.
            epoch: from 0.
            sample: the image's index in the dataset.

        Returns:
            (V, S, S) uint8: the share of each pixel that lies on the object, times 255.
        """
        group = self.groups[0]
        (places,) = self._places(self._shared(epoch, [sample]), [mask.shape], epoch, [sample])
        # Bilinear: its weights are never negative, so that shares do not ring at an edge.
        return torch.cat([_moved(mask[None], place, group.size, "bilinear") for place in places[: group.count]])

    def _shared(self, epoch: int, samples: Sequence[int]) -> np.ndarray:
        """(B x V, SHARED) uniform numbers in [0, 1)."""
        return self._numbers("views", epoch, samples, SHARED)

    def _numbers(self, stream: str, epoch: int, samples: Sequence[int], count: int) -> np.ndarray:
        """(B x V, count) uniform numbers in [0, 1) of a stream."""
        shape = (self._views, count)
        return np.concatenate([rng.generator(self.seed, stream, epoch, sample).random(shape) for sample in samples])

    def _draw(self, active: Active, u: np.ndarray, epoch: int, samples: Sequence[int]) -> Sequence[np.ndarray]:
        """The columns of an augmentation, (B x V,) each; ``u`` is the shared stream."""
        augmentation, numbers = active.augmentation, active.augmentation.numbers
        if augmentation.shared is not None:
            first = NUMBERS + augmentation.shared
            own = u[:, first : first + numbers].T
        else:
            own = self._numbers(f"views-{active.name}", epoch, samples, numbers).T
        on = own[0] < np.tile(active.probability, len(samples))
        return augmentation.draw(on, own[1:], np.tile(self._sizes, len(samples)))

    def _places(
        self, u: np.ndarray, shapes: Sequence[Sequence[int]], epoch: int, samples: Sequence[int]
    ) -> list[list[Place]]:
        """The place of every view of each image; ``shapes`` are their heights and widths."""
        height, width = np.repeat(np.array(shapes), self._views, axis=0).T
        scale, ratio = (np.tile(each, (len(samples), 1)) for each in (self._scale, self._ratio))
        places = [Place(box, []) for box in boxes_from(u[:, :NUMBERS], height, width, scale, ratio).tolist()]
        for active in self._active:
            if isinstance(active.augmentation, Geometric):
                (values,) = self._draw(active, u, epoch, samples)
                for place, value in zip(places, values.tolist(), strict=True):
                    if value:
                        place.moves.append((type(active.augmentation), value))
        return [places[first : first + self._views] for first in range(0, len(places), self._views)]


def _moved(image: Tensor, place: Place, size: int, mode: Literal["bicubic", "bilinear"] = "bicubic") -> Tensor:
    """A crop with its geometric augmentations: (C, size, size) uint8."""
    crop = cut(image, place.box, size, mode)
    for augmentation, value in place.moves:
        crop = augmentation.apply(crop, value)
    return crop


def _group(section: CropSection, size: int) -> CropGroup:
    low, high = section.scale
    if not 0 < low <= high <= 1:
        raise UsageError(f"a crop's scale {list(section.scale)} must be two rising shares of the area in (0, 1]")
    return CropGroup(section.count, size, section.scale, section.ratio)
