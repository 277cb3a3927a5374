"""What an augmentation is: its keys in a recipe, what it draws for each view, and what it does to pixels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sslkit.recipe.sections import Strict

RGB = 3
CACHED_FLOATS = 1 << 17  # 512 KiB of pixels, and as much of what the operations make of them


class Augmentation(ABC):
    """One augmentation. A plug-in derives from ``Geometric`` or ``Photometric``.

    Everything random is a pure function of (seed, epoch, sample, view): the loader hands each augmentation uniform
    numbers from a stream of its own, so a new augmentation never changes what the others draw.

    Args:
        keys: the recipe's ``views.augment``, which has the fields of ``Config``.

    Attributes:
        order: place among the augmentations: they run, and their keys are listed, from the smallest to the largest.
        numbers: uniform numbers that each view uses; the first decides whether the view is changed.
        shared: None, or where its numbers begin in the stream that the crops' boxes come from. Only for the
            augmentations that were there before each had its own stream: moving them would change every run.
        rgb_only: it is not defined, and left out, for images of other channels.
    """

    order: ClassVar[int]
    numbers: ClassVar[int] = 1
    shared: ClassVar[int | None] = None
    rgb_only: ClassVar[bool] = False

    class Config(Strict):
        """The keys it adds to ``views.augment``. The one named after the file is its probability."""

    def __init__(self, keys: Any):
        self.keys = keys

    def draw(self, on: np.ndarray, u: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        """The parameters of each view.

        Args:
            on: (V,) bool, whether the view is changed.
            u: (numbers - 1, V) the other uniform numbers, in [0, 1).
            sizes: (V,) int64, pixels of a side of each crop.

        Returns:
            Columns of (V,) numbers, kept as float32. The first is positive for views that are changed, else 0.
        """
        return (on,)


class Geometric(Augmentation):
    """Moves pixels: done to each crop by the loader, and alike to the crop of the mask of the image's object."""

    @staticmethod
    @abstractmethod
    def apply(crop: Tensor, value: float) -> Tensor:
        """Change one crop.

        Args:
            crop: (C, S, S) uint8.
            value: what was drawn for it, positive.
        """


class Photometric(Augmentation):
    """Changes values of pixels: done to whole batches on the training device.

    Attributes:
        columns: how many columns ``draw`` returns.
        after_normalising: it runs on normalised images, after all that do not.
    """

    columns: ClassVar[int] = 1
    after_normalising: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Change a batch in place.

        Args:
            images: (n, C, H, W) float32 in [0, 1] on the device, or normalised.
            draws: (n, columns) float32 on the host, as ``draw`` returned them.
        """


def at_once(images: Tensor) -> int:
    """How many of (n, C, H, W) an operation is done to together: on a CPU what stays in its cache, elsewhere all."""
    return len(images) if images.device.type != "cpu" else max(1, CACHED_FLOATS // images[0].numel())


def change(images: Tensor, where: np.ndarray, operation: Callable[..., object], *values: np.ndarray) -> None:
    """Apply an in-place operation to some images, each with its own values.

    The draws are on the host, so which images are changed is known without asking the device.

    Args:
        images: (n, C, H, W).
        where: (n,) bool, which ones.
        operation: takes (m, C, H, W) and, for each of ``values``, (m, k, 1, 1).
        values: (n,) each, with k = 1, or (n, k).
    """
    chosen, most = np.flatnonzero(where), at_once(images)
    for first in range(0, len(chosen), most):
        some = chosen[first : first + most]
        parameters = (torch.from_numpy(column[some]).view(len(some), -1, 1, 1) for column in values)
        on_device = (p.to(images.device, non_blocking=True) for p in parameters)
        start, stop = int(some[0]), int(some[-1]) + 1
        if stop - start == len(some):  # neighbours, which need not be copied
            operation(images[start:stop], *on_device)
        else:
            index = torch.from_numpy(some).to(images.device, non_blocking=True)
            picked = images.index_select(0, index)
            operation(picked, *on_device)
            images.index_copy_(0, index, picked)


def luma(x: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W), with the weights of ITU-R BT.601, as PIL and torchvision; else channels' mean."""
    if x.shape[1] != RGB:
        return x.mean(1, keepdim=True)
    red, green, blue = x.chunk(RGB, 1)
    return (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
