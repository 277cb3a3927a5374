"""Micro-batches of views, made by worker processes; their number never changes a result."""

import warnings
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslkit.data.batch import Batch
from sslkit.data.order import Order
from sslkit.data.views import ViewMaker
from sslkit.errors import SslkitError
from sslkit.workers import leave_signals_to_parent

IN_MEMORY_BYTES = 1 << 30  # decoded pixels up to this size are kept
DECODED_AT_ONCE = 16  # images of a micro-batch whose views are drawn together


class Images(Protocol):
    """Images by number, such as ``shards.open_split`` returns."""

    labels: np.ndarray

    def __len__(self) -> int: ...

    def image(self, i: int) -> Tensor:
        """(C, H, W) uint8."""
        ...

    def object_mask(self, i: int) -> Tensor | None:
        """(H, W) uint8, 255 on the object and 0 elsewhere; None for an image without a mask."""
        ...


class DecodedImages:
    """Images decoded once into shared memory, for small datasets.

    Args:
        pixels: (N, C, H, W) uint8 in shared memory.
        labels: (N,) int64.
        masks: (N, H, W) uint8 in shared memory, of the objects; None: not decoded, or there are none.
        source: where masks that are not decoded come from.
    """

    def __init__(self, pixels: Tensor, labels: np.ndarray, masks: Tensor | None = None, source: Images | None = None):
        self.pixels, self.labels, self.masks, self.source = pixels, labels, masks, source

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, i: int) -> Tensor:
        """(C, H, W) uint8."""
        return self.pixels[i]

    def object_mask(self, i: int) -> Tensor | None:
        """(H, W) uint8, or None."""
        if self.masks is not None:
            return self.masks[i]
        return None if self.source is None else self.source.object_mask(i)


def in_memory(images: Images, objects: bool = False) -> Images:
    """The images decoded into memory if all have the same size and fit; otherwise as they are.

    Args:
        images: to decode.
        objects: keep the objects' masks too, if the first image has one; otherwise they are decoded on demand.
    """
    first, masked = images.image(0), objects and images.object_mask(0) is not None
    channels, *size = first.shape
    if (channels + masked) * first[0].numel() * len(images) > IN_MEMORY_BYTES:
        return images
    # Channels last, as decoders leave them: crops of it are resized faster.
    shape = (len(images), channels, *size)
    pixels = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last).share_memory_()
    masks = torch.empty((len(images), *size), dtype=torch.uint8).share_memory_() if masked else None
    for index in range(len(images)):
        image = images.image(index)
        if image.shape != first.shape:
            return images
        pixels[index] = image
        if masks is not None:
            masks[index] = _mask_for(image, images, index)
    return DecodedImages(pixels, images.labels, masks, images)


def _mask_for(image: Tensor, images: Images, i: int) -> Tensor:
    """(H, W) uint8: the mask of an image's object, empty for an image without one among images that have them.

    Raises:
        SslkitError: the mask is not as large as its image.
    """
    mask = images.object_mask(i)
    if mask is None:
        return image.new_zeros(image.shape[1:])
    if mask.shape != image.shape[1:]:
        raise SslkitError(
            f"the mask of sample {i} has {mask.shape[0]} x {mask.shape[1]} pixels, its image {image.shape[1]} x "
            f"{image.shape[2]}: prepare the data again, with masks as large as their images"
        )
    return mask


class ViewBatches(Dataset):
    """Whole micro-batches by (epoch, indices).

    Args:
        images: where the images come from.
        views: makes their views.
        objects: batches carry ``objects``, if the first image has a mask.
    """

    def __init__(self, images: Images, views: ViewMaker, objects: bool = False):
        self.images, self.views = images, views
        self.objects = objects and len(images) > 0 and images.object_mask(0) is not None

    def __getitem__(self, key: tuple[int, np.ndarray]) -> Batch:
        epoch, samples = key
        made, objects = [], []
        for first in range(0, len(samples), DECODED_AT_ONCE):
            part = samples[first : first + DECODED_AT_ONCE].tolist()
            images = [self.images.image(sample) for sample in part]
            made.append(self.views.batch(images, epoch, part))
            if self.objects:
                for sample, image in zip(part, images, strict=True):
                    objects.append(self.views.objects(_mask_for(image, self.images, sample), epoch, sample))
        groups = range(len(self.views.groups))
        return Batch(
            samples=torch.from_numpy(samples),
            labels=torch.from_numpy(self.images.labels[samples]),
            crops=[torch.cat([crops[g] for crops, _ in made], 1) for g in groups],
            photometric=[torch.from_numpy(np.concatenate([draws[g] for _, draws in made], 1)) for g in groups],
            objects=torch.stack(objects, 1) if objects else None,
            mean=self.views.mean,
            std=self.views.std,
        )


class _Keys:
    """The loader's sampler: the (epoch, indices) of each micro-batch from step to step."""

    def __init__(self, order: Order, start: int, stop: int):
        self.order, self.start, self.stop = order, start, stop

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return self.order.micro_batches(self.start, self.stop)


def batches(
    images: Images,
    views: ViewMaker,
    order: Order,
    start: int,
    stop: int,
    workers: int,
    pin: bool,
    objects: bool = False,
) -> Iterator[Batch]:
    """This process's micro-batches for optimizer steps start to stop - 1.

    Args:
        images: the training images.
        views: makes their views.
        order: which images, when.
        start: the first optimizer step.
        stop: one past the last.
        workers: loader processes; 0 makes batches in this one.
        pin: page-locked memory, for CUDA.
        objects: batches carry the masks of the images' objects, where the first image has one.
    """
    # One iterator for the whole run: no pause between epochs, and the workers stay.
    with warnings.catch_warnings():
        # The user decides how many workers are worth it.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            ViewBatches(images, views, objects),
            sampler=_Keys(order, start, stop),
            batch_size=None,
            num_workers=workers,
            pin_memory=pin,
            prefetch_factor=3 if workers else None,
            worker_init_fn=leave_signals_to_parent,
        )
        return iter(loader)
