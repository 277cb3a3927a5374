"""Photos with masks of their objects, as segmentation reads them; those of prepared data."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from sslkit.data.shards import Split
from sslkit.errors import SslkitError, number_of


class Photos(Protocol):
    """Photos with masks, by number: ``MaskedSplit`` here, or ``mask_folder.MaskFolder``."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the photos."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes; the background, if there is one, is class 0."""
        ...

    @property
    def objects(self) -> Sequence[int]:
        """The classes that are objects."""
        ...

    @property
    def binary(self) -> bool:
        """Whether masks only separate object from background."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """Remarks for the user on what was left out."""
        ...

    def check(self) -> list[str]:
        """Verify that the masks are usable, without reading all of them; returns more remarks."""
        ...

    def read(self, i: int) -> tuple[Tensor, np.ndarray]:
        """Photo ``i``, uint8 (3, H, W), and its mask, int64 (h, w): the class, or -1 for void.

        The mask may be larger or smaller than the photo, but shows the same.
        """
        ...

    def read_objects(self, i: int) -> np.ndarray | None:
        """Single objects of photo ``i``, int64 (h, w): 0, 1 to G, or -1 for void; None if only classes are known."""
        ...


class MaskedSplit:
    """The samples of a prepared split with a mask of their object, as those of ``shapes``; at most ``count`` of them.

    Raises:
        SslkitError: no sample has one.
    """

    binary = True
    classes = ("background", "object")
    objects = (1,)

    def __init__(self, split: Split, count: int | None = None):
        self._split, masked = split, split.having("mask.png")
        if not len(masked):
            raise SslkitError(
                f"{split.name} of the prepared data has no object masks: name photos by --images DIR --masks DIR"
            )
        without = len(split) - len(masked)
        self.remarks = [f"{number_of(without, f'image of {split.name}', 'has')} no mask, left out"] if without else []
        self._rows = masked[spread(len(masked), count)].tolist()
        self.names = [split.source_name(row) for row in self._rows]

    def check(self) -> list[str]:
        """Raise ``SslkitError`` if all masks are empty; usually the first one has an object."""
        if not any(self._mask(row).any() for row in self._rows):
            raise SslkitError(f"no mask of {self._split.name} has an object: there is nothing to find")
        return []

    def read(self, i: int) -> tuple[Tensor, np.ndarray]:
        """See ``Photos``; ``SslkitError`` if the mask's size is not the image's."""
        row = self._rows[i]
        image, labels = self._split.image(row), self._mask(row).astype(np.int64)
        check_sizes(f"the mask of {self.names[i]}", image.shape[1:], labels.shape)
        return image, labels

    def read_objects(self, i: int) -> np.ndarray | None:
        """None: the mask is that of one object."""
        return None

    def _mask(self, row: int) -> np.ndarray:
        mask = self._split.object_mask(row)
        assert mask is not None
        return mask.numpy() > 0


def spread(size: int, count: int | None) -> list[int]:
    """``count`` of ``size`` rows, evenly spread because data is sorted by class; all without a count.

    >>> spread(9, 3)
    [0, 4, 8]
    """
    if count is None or count >= size:
        return list(range(size))
    return np.linspace(0, size - 1, count).round().astype(int).tolist()


def check_sizes(what: str, image: Sequence[int], mask: Sequence[int]) -> None:
    """Raise ``SslkitError`` unless an image and its mask have the same height and width, or at least the same shape."""
    if tuple(image) == tuple(mask):
        return
    height, width = mask[1] * image[0] / image[1], mask[0] * image[1] / image[0]  # of a scaled version, unrounded
    if min(abs(mask[0] - height), abs(mask[1] - width)) > 0.5:
        raise SslkitError(
            f"{what} has {mask[0]} x {mask[1]} pixels, its image {image[0]} x {image[1]}: the sizes must be equal, or "
            "one a scaled version of the other; crop or scale the photo as the mask was"
        )
