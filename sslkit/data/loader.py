"""Micro-batches of views, made by worker processes whose number never changes a result."""

import signal
import warnings
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslkit.data.order import Order
from sslkit.data.views import Batch, ViewMaker

IN_MEMORY_BYTES = 1 << 30  # decoded pixels up to this size are kept


class Images(Protocol):
    """Images that can be asked for by number; what ``shards.open_split`` returns."""

    labels: np.ndarray

    def __len__(self) -> int: ...

    def image(self, i: int) -> Tensor:
        """(3, H, W) uint8."""
        ...


class DecodedImages:
    """Images decoded once into shared memory, for small datasets.

    Args:
        pixels: (N, 3, H, W) uint8 in shared memory.
        labels: (N,) int64.
    """

    def __init__(self, pixels: Tensor, labels: np.ndarray):
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, i: int) -> Tensor:
        """(3, H, W) uint8."""
        return self.pixels[i]


def in_memory(images: Images) -> Images:
    """The images decoded into memory, when all have one size and fit; else as they are."""
    first = images.image(0)
    if first.numel() * len(images) > IN_MEMORY_BYTES:
        return images
    pixels = torch.empty((len(images), *first.shape), dtype=torch.uint8).share_memory_()
    for index in range(len(images)):
        image = images.image(index)
        if image.shape != first.shape:
            return images
        pixels[index] = image
    return DecodedImages(pixels, images.labels)


class ViewBatches(Dataset):
    """Makes whole micro-batches: asked for (epoch, indices), it answers with a ``Batch``."""

    def __init__(self, images: Images, views: ViewMaker):
        self.images, self.views = images, views

    def __getitem__(self, key: tuple[int, np.ndarray]) -> Batch:
        epoch, samples = key
        made = [self.views(self.images.image(int(s)), epoch, int(s)) for s in samples]
        groups = range(len(self.views.groups))
        return Batch(
            samples=torch.from_numpy(samples),
            labels=torch.from_numpy(self.images.labels[samples]),
            crops=[torch.stack([crops[g] for crops, _ in made], 1) for g in groups],
            photometric=[torch.from_numpy(np.stack([draws[g] for _, draws in made], 1)) for g in groups],
        )


class _Keys:
    """The loader's sampler: what to ask for, from a step on."""

    def __init__(self, order: Order, start: int, stop: int):
        self.order, self.start, self.stop = order, start, stop

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return self.order.micro_batches(self.start, self.stop)


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker that dies of it would take the step down with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def batches(
    images: Images, views: ViewMaker, order: Order, start: int, stop: int, workers: int, pin: bool
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
    """
    # One iterator for the whole run: no pause between epochs, and the workers stay.
    with warnings.catch_warnings():
        # How many workers are worth it is for the user to say.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            ViewBatches(images, views),
            sampler=_Keys(order, start, stop),
            batch_size=None,
            num_workers=workers,
            pin_memory=pin,
            prefetch_factor=3 if workers else None,
            worker_init_fn=_leave_signals_to_parent,
        )
        return iter(loader)
