"""A folder of photos and a folder of masks of the same names.

There are two kinds of masks. A binary one holds 0 and one other value. A mask of several classes holds a class index
per pixel (grey or palette, as VOC's), in which 0 is the background and 255 is void: unknown, and never counted.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from sslkit.data.images import decode
from sslkit.errors import SslkitError
from sslkit.probes.segmentation.photos import check_sizes, spread

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
VOID = 255
UNKNOWN = -1  # what void becomes


@dataclass(frozen=True)
class MaskFolder:
    """Photos and masks in two folders; see ``open_folder``."""

    pairs: Sequence[tuple[Path, Path]]  # photo and mask
    names: Sequence[str]  # of the photos, without suffix
    values: np.ndarray  # (K,) the mask value of each class, ascending
    classes: Sequence[str]  # K names: the values, or background and object
    binary: bool  # masks only separate object from background
    cut: int | None  # with ``--binary``, pixels above this value are the object; None takes values as they are
    digest: str  # SHA-256 of names and contents
    remarks: Sequence[str]  # for the user, on what was left out

    @property
    def objects(self) -> list[int]:
        """Every class but that of value 0."""
        return [1] if self.binary else np.flatnonzero(self.values != 0).tolist()

    def check(self) -> None:
        """Compare the sizes in the files' headers.

        Raises:
            SslkitError: a photo and its mask differ in size.
        """
        for photo, mask in self.pairs:
            with suppress(OSError, SyntaxError, ValueError), Image.open(photo) as one, Image.open(mask) as other:
                turned = one.getexif().get(ExifTags.Base.Orientation, 1) > 4  # by a quarter
                check_sizes(str(mask), one.size if turned else one.size[::-1], other.size[::-1])

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
        check_sizes(str(mask), image.shape[1:], pixels.shape)
        if self.cut is not None:
            return image, (pixels > self.cut).astype(np.int64)
        place = np.searchsorted(self.values, pixels).clip(max=len(self.values) - 1)
        return image, np.where(self.values[place] == pixels, place, UNKNOWN)


def open_folder(
    images: Path, masks: Path, count: int | None = None, binary: bool = False, void: int = VOID
) -> MaskFolder:
    """Pair photos and masks of the same name, whatever their suffixes; files without a partner are left out.

    Masks of two values, one of them 0, are binary; 255 is an object then. All others are masks of classes.

    Args:
        images: folder of photos, searched recursively; a photo's name is its path below the folder.
        masks: folder of masks, with the same layout.
        count: how many photos, spread evenly over the sorted names; None uses all.
        binary: masks are binary whatever values they hold: pixels above half of the brightest are the object. For
            masks that were saved as JPEG.
        void: the value that is never counted, in masks of several classes.

    Raises:
        SslkitError: no folder, no pair, a file that is not a mask, or no mask with an object.
    """
    photos, drawn = _by_stem(images, "--images"), _by_stem(masks, "--masks")
    both = sorted(photos.keys() & drawn.keys())
    if not both:
        first, other = (next(iter(files.values())).name for files in (photos, drawn))
        raise SslkitError(
            f"no photo in {images} has a mask of the same name in {masks}: their first files are {first} and {other}"
        )
    names = [both[i] for i in spread(len(both), count)]
    pairs = [(photos[name], drawn[name]) for name in names]
    digest, values = hashlib.sha256(), np.empty(0, np.int64)
    for name, (photo, mask) in zip(names, pairs, strict=True):
        for content in (name.encode(), photo.read_bytes(), mask.read_bytes()):
            digest.update(hashlib.sha256(content).digest())
        values = np.union1d(values, np.unique(read_mask(mask)))
    cut = int(values.max()) // 2 if binary else None
    two = binary or (len(values) <= 2 and (values[0] == 0 or len(values) == 1))
    known = values if two else values[values != void]
    if not len(known[known != 0]):
        raise SslkitError(f"no mask in {masks} has an object: every pixel is 0 or void")
    remarks = [f"{len(photos) - len(both)} photos have no mask and are left out"] if len(photos) > len(both) else []
    remarks += [f"{len(drawn) - len(both)} masks have no photo and are left out"] if len(drawn) > len(both) else []
    classes = ["background", "object"] if two else [str(value) for value in known]
    known = np.array([0, known.max()]) if two else known
    return MaskFolder(pairs, names, known, classes, two, cut, digest.hexdigest(), remarks)


def read_mask(path: Path) -> np.ndarray:
    """The values of a mask, int64 (H, W): palette indices, not the palette's colours.

    Raises:
        SslkitError: the file is not an image, or in colour.
    """
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise SslkitError(f"{path} cannot be read as a mask ({str(error).splitlines()[0][:80]})") from error
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
        raise SslkitError(f"{folder} is not a folder: {option} requires one")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise SslkitError(f"No images found in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    by_stem: dict[str, Path] = {}
    for path in found:
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in by_stem:
            raise SslkitError(
                f"{by_stem[stem]} and {path} have the same name: {option} requires a folder with one file per name"
            )
        by_stem[stem] = path
    return by_stem
