"""Photos with masks of their objects: two folders of files of the same names, or prepared data that carries masks.

Masks on disk come in two kinds. A binary one is 0 and one other value. One of several classes holds a class index per
pixel (grey or palette, as VOC's), in which 0 is the background and 255 is void: unknown, and counted nowhere.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from sslkit.data.images import decode
from sslkit.data.shards import Split
from sslkit.errors import SslkitError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
VOID = 255
UNKNOWN = -1  # what void becomes
ORIENTATION = 0x0112  # the EXIF tag


class Photos(Protocol):
    """Photos with masks, by number."""

    @property
    def names(self) -> Sequence[str]:
        """Of the photos."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes; the background, where there is one, is class 0."""
        ...

    @property
    def objects(self) -> Sequence[int]:
        """The classes that are objects."""
        ...

    @property
    def binary(self) -> bool:
        """Whether a mask says no more than object or not."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What was left out, for the user."""
        ...

    def check(self) -> None:
        """See that there is something to judge by, without reading all of it."""
        ...

    def read(self, i: int) -> tuple[Tensor, np.ndarray]:
        """The photo, uint8 (3, H, W), and its mask, int64 (H, W): the class, or -1 for void."""
        ...


@dataclass(frozen=True)
class MaskFolder:
    """Photos and masks in two folders; see ``open_folder``.

    Attributes:
        pairs: photo and mask.
        names: of the photos, without suffix.
        values: (K,) the mask value of each class, ascending.
        classes: K names: the values, or background and object.
        binary: whether every mask is of one object.
        cut: with ``--binary``: what is above this value is the object; None reads values as they are.
        digest: SHA-256 over names and contents.
        remarks: what was left out, for the user.
    """

    pairs: Sequence[tuple[Path, Path]]
    names: Sequence[str]
    values: np.ndarray
    classes: Sequence[str]
    binary: bool
    cut: int | None
    digest: str
    remarks: Sequence[str]

    @property
    def objects(self) -> list[int]:
        """Every class but the one whose value is 0."""
        return [1] if self.binary else np.flatnonzero(self.values != 0).tolist()

    def check(self) -> None:
        """Compare the sizes that the files' headers tell.

        Raises:
            SslkitError: a photo whose size is not its mask's.
        """
        for photo, mask in self.pairs:
            with suppress(OSError, SyntaxError, ValueError), Image.open(photo) as one, Image.open(mask) as other:
                turned = one.getexif().get(ORIENTATION, 1) > 4  # by a quarter
                _check_sizes(str(mask), one.size if turned else one.size[::-1], other.size[::-1])

    def read(self, i: int) -> tuple[Tensor, np.ndarray]:
        """See ``Photos``.

        Raises:
            SslkitError: the photo cannot be read, or its size is not the mask's.
        """
        photo, mask = self.pairs[i]
        try:
            image = decode(photo.read_bytes())
        except SslkitError as error:
            raise SslkitError(f"{photo}: {error}") from error
        pixels = read_mask(mask)
        _check_sizes(str(mask), image.shape[1:], pixels.shape)
        if self.cut is not None:
            return image, (pixels > self.cut).astype(np.int64)
        place = np.searchsorted(self.values, pixels).clip(max=len(self.values) - 1)
        return image, np.where(self.values[place] == pixels, place, UNKNOWN)


class MaskedSplit:
    """A prepared split whose samples carry the mask of their object, as ``shapes`` does; others are left out.

    Args:
        split: some or all of its samples have a mask.
        count: so many of these, evenly spread; None takes all.

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
                f"{split.name} of the prepared data has no object masks: name photos with --images DIR --masks DIR"
            )
        without = len(split) - len(masked)
        self.remarks = [f"{without} images of {split.name} have no mask and are left out"] if without else []
        self._rows = masked[spread(len(masked), count)].tolist()
        self.names = [split.keys[row] for row in self._rows]

    def check(self) -> None:
        """Look for an object; mostly the first mask has one.

        Raises:
            SslkitError: all masks are empty.
        """
        if not any(self._mask(row).any() for row in self._rows):
            raise SslkitError(f"no mask of {self._split.name} has an object: there is nothing to find")

    def read(self, i: int) -> tuple[Tensor, np.ndarray]:
        """See ``Photos``.

        Raises:
            SslkitError: a sample has a mask of another size.
        """
        row = self._rows[i]
        image, labels = self._split.image(row), self._mask(row).astype(np.int64)
        _check_sizes(f"the mask of {self.names[i]}", image.shape[1:], labels.shape)
        return image, labels

    def _mask(self, row: int) -> np.ndarray:
        mask = self._split.object_mask(row)
        assert mask is not None
        return mask.numpy() > 0


def spread(size: int, count: int | None) -> list[int]:
    """``count`` of ``size`` rows, evenly spread, since data lies class by class; all without a count.

    >>> spread(9, 3)
    [0, 4, 8]
    """
    if count is None or count >= size:
        return list(range(size))
    return np.linspace(0, size - 1, count).round().astype(int).tolist()


def open_folder(
    images: Path, masks: Path, count: int | None = None, binary: bool = False, void: int = VOID
) -> MaskFolder:
    """Photos and masks of the same name, whatever their suffixes; what has no partner is left out.

    Masks of two values, one of them 0, are binary, 255 is an object then. All others are of classes.

    Args:
        images: folder of photos; those below it count, by their path.
        masks: folder of masks, laid out alike.
        count: so many photos, spread evenly over the sorted names; None takes all.
        binary: masks are of one object whatever values they hold: what is above half of the brightest is on it. For
            masks that were saved as JPEG.
        void: the value that is counted nowhere, where there are several classes.

    Raises:
        SslkitError: no folder, no pair, a mask that is none, or none with an object.
    """
    photos, drawn = _by_stem(images, "--images"), _by_stem(masks, "--masks")
    both = sorted(photos.keys() & drawn.keys())
    if not both:
        raise SslkitError(
            f"no photo in {images} has a mask of its name in {masks}: there are {_some(photos)} and {_some(drawn)}"
        )
    names = [both[i] for i in spread(len(both), count)]
    pairs = [(photos[name], drawn[name]) for name in names]
    digest, values = _contents(names, pairs)
    cut = int(values.max()) // 2 if binary else None
    two = binary or (len(values) <= 2 and (values[0] == 0 or len(values) == 1))
    known = values if two else values[values != void]
    if not len(known[known != 0]):
        raise SslkitError(f"no mask in {masks} has an object: all that is not void is 0")
    remarks = [f"{len(photos) - len(both)} photos have no mask and are left out"] if len(photos) > len(both) else []
    remarks += [f"{len(drawn) - len(both)} masks have no photo and are left out"] if len(drawn) > len(both) else []
    classes = ["background", "object"] if two else [str(value) for value in known]
    known = np.array([0, known.max()]) if two else known
    return MaskFolder(pairs, names, known, classes, two, cut, digest, remarks)


def _contents(names: Sequence[str], pairs: Sequence[tuple[Path, Path]]) -> tuple[str, np.ndarray]:
    """SHA-256 over names and contents, and the values that occur in the masks, ascending."""
    digest, values = hashlib.sha256(), np.empty(0, np.int64)
    for name, (photo, mask) in zip(names, pairs, strict=True):
        for content in (name.encode(), photo.read_bytes(), mask.read_bytes()):
            digest.update(hashlib.sha256(content).digest())
        values = np.union1d(values, np.unique(read_mask(mask)))
    return digest.hexdigest(), values


def read_mask(path: Path) -> np.ndarray:
    """The values of a mask, int64 (H, W): palette indices, not the palette's colours.

    Raises:
        SslkitError: it is no image, or one in colour.
    """
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise SslkitError(f"{path} is no mask that can be read ({str(error).splitlines()[0][:80]})") from error
    if pixels.ndim == 3:
        colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels  # without alpha
        if (colours != colours[..., :1]).any():
            raise SslkitError(f"{path} is in colour: save masks as grey or palette images of class numbers")
        pixels = colours[..., 0]
    if pixels.dtype.kind not in "uib":
        raise SslkitError(f"{path} holds {pixels.dtype}: save masks as grey or palette images of class numbers")
    return pixels.astype(np.int64)


def _by_stem(folder: Path, option: str) -> dict[str, Path]:
    """Image files by their path below the folder, without suffix."""
    if not folder.is_dir():
        raise SslkitError(f"no folder at {folder}: {option} takes one")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise SslkitError(f"no image in {folder}: files named {', '.join(sorted(SUFFIXES))} are looked for")
    by_stem: dict[str, Path] = {}
    for path in found:
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in by_stem:
            raise SslkitError(
                f"{by_stem[stem]} and {path} have one name: {option} takes a folder with one file for each"
            )
        by_stem[stem] = path
    return by_stem


def _some(files: dict[str, Path]) -> str:
    return next(iter(files.values())).name


def _check_sizes(what: str, image: Sequence[int], mask: Sequence[int]) -> None:
    """Heights and widths are the same."""
    if tuple(image) != tuple(mask):
        raise SslkitError(
            f"{what} has {mask[0]} x {mask[1]} pixels, its image {image[0]} x {image[1]}: they need one size"
        )
