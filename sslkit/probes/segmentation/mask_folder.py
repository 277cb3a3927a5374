"""Photos and their mask files, ready to be read.

There are two kinds of masks. A binary one holds 0 and one other value. A mask of several classes holds a value per
class, one of which may be the background, and others void: unknown, and never counted. What the values mean is said by
the encoding (see ``annotations/encodings``), by the dataset's layout, or by options.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from sslkit.data.images import decode
from sslkit.data.pixels.rules import DEFAULT, PixelRules
from sslkit.errors import SslkitError, named, number_of
from sslkit.probes.segmentation.annotations.encodings.base import UNKNOWN
from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet
from sslkit.probes.segmentation.annotations.mask_files import MaskReader, brightness, open_masks, read_pixels
from sslkit.probes.segmentation.annotations.parts import match
from sslkit.probes.segmentation.annotations.recognise import meaning_of
from sslkit.probes.segmentation.annotations.values import MaskOptions, MaskValues, choose_values
from sslkit.probes.segmentation.photos import check_sizes, spread

OBJECT_VOID = 255  # in masks of single objects


@dataclass(frozen=True)
class MaskFolder:
    """Photos and masks on disk; see ``open_folder``."""

    pairs: Sequence[tuple[Path, Path]]  # photo and mask
    names: Sequence[str]  # of the photos, without suffix
    values: MaskValues
    reader: MaskReader
    digest: str  # SHA-256 of names and contents
    remarks: Sequence[str]  # for the user, on what was recognised and what was left out
    object_masks: Sequence[Path] = field(default_factory=tuple)  # of single objects, for each photo; empty without
    object_reader: MaskReader | None = None
    rules: PixelRules = DEFAULT  # how photos are read, and how large photos and masks may be

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes: the values, if nothing names them, or background and object."""
        return self.values.classes

    @property
    def binary(self) -> bool:
        """Whether masks only separate object from background."""
        return self.values.binary

    @property
    def objects(self) -> Sequence[int]:
        """Every class but the background."""
        return self.values.objects

    def check(self) -> list[str]:
        """Compare the sizes in the files' headers; returns a remark if masks are larger or smaller than their photos.

        Raises:
            SslkitError: a photo and its mask differ in shape.
        """
        others = list[str]()
        for photo, mask in [*self.pairs, *zip((photo for photo, _ in self.pairs), self.object_masks, strict=False)]:
            with suppress(OSError, SyntaxError, ValueError), Image.open(photo) as one, Image.open(mask) as other:
                size = _upright(one)
                check_sizes(str(mask), size, other.size[::-1])
                others += [mask.name] if size != other.size[::-1] else []
        if not others:
            return []
        scaled = number_of(len(others), "mask", "is")
        return [f"{scaled} scaled to another size than the photo, and evaluated so: {named(others)}"]

    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the photos, from their headers; without those whose header does not tell."""
        found = []
        for photo, _ in self.pairs:
            with suppress(OSError, SyntaxError, ValueError), Image.open(photo) as one:
                found.append(_upright(one))
        return found

    def read(self, i: int) -> tuple[Tensor, np.ndarray]:
        """See ``Photos``.

        Raises:
            SslkitError: the photo cannot be read, or its shape is not the mask's.
        """
        photo, mask = self.pairs[i]
        try:
            image = decode(photo.read_bytes(), self.rules)
        except SslkitError as error:
            raise SslkitError(f"{photo}: {error}") from error
        if self.values.cut is not None:
            pixels, coloured = read_pixels(mask, rules=self.rules)
            labels = ((brightness(pixels) if coloured else pixels) > self.values.cut).astype(np.int64)
        elif self.object_reader is not None and self.object_masks[i] == mask:
            labels = np.minimum(self._single(i), 1)
        else:
            labels = self.values.labels(self.reader.read(mask))
        check_sizes(str(mask), image.shape[1:], labels.shape)
        return image, labels

    def read_objects(self, i: int) -> np.ndarray | None:
        """See ``Photos``."""
        return None if self.object_reader is None else self._single(i)

    def _single(self, i: int) -> np.ndarray:
        assert self.object_reader is not None
        values, labels = np.unique(self.object_reader.read(self.object_masks[i]), return_inverse=True)
        known = (values != 0) & (values != OBJECT_VOID)
        numbers = np.where(known, known.cumsum(), np.where(values == 0, 0, UNKNOWN))
        return numbers[labels].reshape(labels.shape)


def _upright(photo: Image.Image) -> tuple[int, int]:
    """(height, width) of a photo as it is shown, by its header."""
    width, height = photo.size
    turned = photo.getexif().get(ExifTags.Base.Orientation, 1) > 4  # by a quarter
    return (width, height) if turned else (height, width)


def open_folder(
    found: MaskedSet, options: MaskOptions | None = None, count: int | None = None, rules: PixelRules = DEFAULT
) -> MaskFolder:
    """Photos with their masks; files without a partner are left out.

    Masks of two values, one of them 0, are binary; 255 is an object then. All others are masks of classes.

    Args:
        found: what belongs together.
        options: what was said about the values.
        count: how many photos, spread evenly over the names; None uses all.
        rules: how photos are read, and how large photos and masks may be.

    Raises:
        SslkitError: no pair, a file that is not a mask, or no mask with an object.
    """
    options = options or MaskOptions()
    names, remarks = match(found.pairs, found.listed)
    if found.objects and (lacking := [name for name in names if name not in found.objects]):
        names = [name for name in names if name in found.objects]
        remarks.append(
            f"{number_of(len(lacking), 'photo', 'has')} no mask of single objects, left out: {named(lacking)}"
        )
        if not names:
            raise SslkitError("no photo has a mask of classes and one of single objects")
    names = [names[i] for i in spread(len(names), count)]
    pairs = [(found.pairs.photos[name], found.pairs.masks[name]) for name in names]
    masks = [mask for _, mask in pairs]
    meaning = meaning_of(masks)
    table = meaning.table if meaning else None
    reader = open_masks(masks, options.table or table, rules)
    values = choose_values(reader, meaning, options, masks)
    took = [found.took, f"photos: those of {found.listed}" if found.listed else "", found.pairs.took, *values.took]
    objects = [found.objects[name] for name in names] if found.objects else []
    if meaning and meaning.single and not options.binary:
        objects = masks
    numbers = open_masks(objects, table, rules) if objects else None
    digest = _digest(names, pairs, objects, reader)
    remarks = [*filter(None, took), *remarks, *values.remarks]
    return MaskFolder(pairs, names, values, reader, digest, remarks, objects, numbers, rules)


def _digest(
    names: Sequence[str], pairs: Sequence[tuple[Path, Path]], objects: Sequence[Path], reader: MaskReader
) -> str:
    digest = hashlib.sha256()
    for name, (photo, mask) in zip(names, pairs, strict=True):
        for content in (name.encode(errors="surrogateescape"), photo.read_bytes(), mask.read_bytes()):
            digest.update(hashlib.sha256(content).digest())
    for path in objects:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if table := reader.encoding.seen.table:
        digest.update(repr((list(table.colours), list(table.names))).encode())
    return digest.hexdigest()
