"""The images that a stage draws: your own photos, or some of val."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import InterruptedRun, SslkitError
from sslkit.files import special_files
from stages.contract.layout import Result, Run
from stages.contract.output import say
from stages.contract.record import fingerprints
from stages.contract.stage import Stage
from stages.inputs.photo_folders import as_variant, expect_same, folder_name
from stages.options.images import ImageOptions

if TYPE_CHECKING:
    from torch import Tensor

    from sslkit.data.pixels.rules import PixelRules
    from sslkit.data.shards import Split

DEFAULT_COUNT = 8
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImagesToDraw:
    """The images that a stage of a run draws."""

    run: Run
    folder: Path | None  # of the photos, or a single photo; None for val
    photos: Mapping[str, Path]  # by name, sorted; none for val
    count: int
    channels: int = 3  # as which the photos are read
    max_pixels: int | None = None  # above which a photo is skipped; None: the default

    @property
    def inputs(self) -> dict[str, Path]:
        """The files by name: the photos, or the manifest of the prepared data."""
        if self.folder is None:
            return {"data": self.run.manifest}
        return {f"photo {name}": path for name, path in self.photos.items()}

    @property
    def config(self) -> Result:
        """The settings that select the images."""
        limit = {} if self.max_pixels is None else {"max_pixels": self.max_pixels}
        return {"images": "val" if self.folder is None else "photos", "count": self.count, **limit}

    @property
    def rules(self) -> "PixelRules":
        """How the photos are read: in the range of the prepared data, if that has one."""
        return photo_rules(self.run, self.channels, self.max_pixels)

    @property
    def name(self) -> str:
        """The name of the photos' folder (see ``folder_name``) or of the single file; empty for val."""
        if self.folder is None:
            return ""
        return self.folder.stem if self.folder.suffix.lower() in PHOTO_SUFFIXES else folder_name(self.folder)

    def variant(self, stage: Stage, force: bool) -> str:
        """The variant of a stage that draws photos, named after their folder; empty for val.

        Raises:
            SslkitError: there are results on other photos of the same name, and ``force`` is not set.
        """
        if self.folder is None:
            return ""

        def same(record: Result) -> bool:
            now = {name: found["sha256"] for name, found in fingerprints(self.inputs, self.run.path).items()}
            return now == {name: was["sha256"] for name, was in record["inputs"].items() if name.startswith("photo ")}

        variant = as_variant(self.name)
        if not force:
            expect_same(self.run, stage.id(variant), {"images": self.folder}, same)
        return variant

    def expect_one(self) -> None:
        """Check that there is at least one image.

        Raises:
            SslkitError: no photo can be read, or there is no prepared data.
        """
        if self.folder is None:
            split_to_draw(self.run)
            return
        first = ""
        for name, path in self.photos.items():
            read = _read(path, self.rules)
            if not isinstance(read, str):
                return
            if len(self.photos) == 1:
                raise SslkitError(f"{path}: {read}")
            first = first or f"{name}: {read}"
        raise SslkitError(f"none of the {len(self.photos)} photos in {self.folder} can be read; the first is {first}")

    def read(self) -> "Iterator[tuple[str, Tensor]]":
        """Names, for val with the class, and (C, H, W) uint8 images; photos that cannot be read are skipped."""
        if self.folder is None:
            yield from val_images(self.run, self.count)
        for name, path in self.photos.items():
            read = _read(path, self.rules)
            if isinstance(read, str):
                say(f"skipped {path}: {read}")
            else:
                yield name, read


def photo_rules(run: Run, channels: int, max_pixels: int | None) -> "PixelRules":
    """How photos that are not prepared are read, for an encoder of so many channels.

    Values of more than 8 bits get the range of the run's prepared data, so that they mean the same.
    """
    from sslkit.data.pixels.rules import MAX_PIXELS, PixelRules

    span = run.prepared().get("range") if run.manifest.exists() else None
    return PixelRules(channels, tuple(span) if span else None, max_pixels or MAX_PIXELS)


def images_to_draw(run: Run, options: ImageOptions, channels: int) -> ImagesToDraw:
    """The images that ``--images`` and ``--count`` ask for, for an encoder of so many channels.

    Raises:
        SslkitError: there are no such photos, or no prepared data.
    """
    folder = options.images
    if folder is None:
        run.need(run.manifest)
        return ImagesToDraw(run, None, {}, options.count or DEFAULT_COUNT)
    photos = find_photos(folder, options.count)
    return ImagesToDraw(run, folder, photos, len(photos), channels, options.max_pixels)


def find_photos(images: Path, count: int | None) -> dict[str, Path]:
    """Photos by name, sorted: a single file, or those in a folder and below it.

    Raises:
        SslkitError: there are none.
    """
    if images.is_file():
        return {images.name: images}
    if not images.is_dir():
        raise SslkitError(f"--images {images}: no such file or folder")
    from sslkit.data.prepare.formats import readable_among

    every = sorted(images.rglob("*"))
    for remark in special_files(every):
        say(remark)
    files = [path for path in every if path.is_file()]
    suffixes = PHOTO_SUFFIXES | readable_among(map(str, files))
    found = [path for path in files if path.suffix.lower() in suffixes]
    if not found:
        raise SslkitError(f"no images found in {images} (looked for {', '.join(sorted(PHOTO_SUFFIXES))})")
    return {str(path.relative_to(images)): path for path in found[:count]}


def _read(path: Path, rules: "PixelRules") -> "Tensor | str":
    """(C, H, W) uint8, or why it cannot be read."""
    from sslkit.data.images import decode

    try:
        return decode(path.read_bytes(), rules)
    except InterruptedRun:
        raise
    except SslkitError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def remark_on_sizes(
    pictures: "Iterator[tuple[str, Tensor]]", shorter: int, patch: int
) -> "Iterator[tuple[str, Tensor]]":
    """The same named (C, H, W) images, with a note for each size that is not the requested one.

    ``shorter``, the requested shorter side, and ``patch``, the encoder's patch size, are in pixels.
    """
    from sslkit.encoder.input_size import MAX_TOKENS, input_size

    whole = max(shorter // patch, 1) * patch
    if whole != shorter:
        say(f"--image-size {shorter} becomes {whole}: patches are {patch} pixels wide")
    noted = set()
    for name, image in pictures:
        size = input_size(image.shape[1], image.shape[2], shorter, patch)
        if min(size) < whole and size not in noted:
            noted.add(size)
            scaled = f"{name} is scaled to {size[1]} x {size[0]} pixels, below {whole}"
            say(f"{scaled}: an image has at most {MAX_TOKENS} patches")
        yield name, image


def in_turns(labels: list[int]) -> list[int]:
    """Positions of images in turns: the first of each class, then the second of each, ...; -1 counts as a class.

    >>> in_turns([0, 0, 0, 1, 1])
    [0, 3, 1, 4, 2]
    """
    import numpy as np

    from sslkit.data import class_balanced as by

    return by.in_turns([rows for _, rows in by.by_class(np.array(labels, np.int64))]).tolist()


def class_of(split: "Split", index: int) -> str:
    """The name of an image's class; empty if it is unlabelled."""
    label = int(split.labels[index])
    return split.classes[label] if label >= 0 else ""


def split_to_draw(run: Run) -> "Split":
    """Val; or train, with a remark, where the data has no val."""
    from sslkit.data.shards import open_split

    if "val" in run.prepared()["splits"]:
        return open_split(run.data, "val")
    say(f"{run.data} has no val: the images are of train")
    return open_split(run.data, "train")


def val_images(run: Run, count: int) -> "Iterator[tuple[str, Tensor]]":
    """File names, with the class where there is one, and images of val, class by class in turns."""
    split = split_to_draw(run)
    for index in in_turns(split.labels.tolist())[:count]:
        name, label = split.source_name(index), class_of(split, index)
        yield f"{name} ({label})" if label else name, split.image(index)
