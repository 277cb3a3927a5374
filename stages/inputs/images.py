"""The images that `attn-viz` and `reconstruct` look at: one's own photos, or some of val."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import InterruptedRun, SslkitError
from stages.contract.layout import Result, Run
from stages.contract.output import say
from stages.contract.record import fingerprints
from stages.inputs.photo_folders import as_variant, expect_same, folder_name

if TYPE_CHECKING:
    from torch import Tensor

    from sslkit.data.shards import Split

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def sizes_told(pictures: Iterator[tuple[str, "Tensor"]], shorter: int, patch: int) -> Iterator[tuple[str, "Tensor"]]:
    """The same pictures, with a remark where one enters the encoder at another size than was asked for."""
    from sslkit.encoder.input_size import MAX_TOKENS, input_size

    whole = max(shorter // patch, 1) * patch
    if whole != shorter:
        say(f"--image-size {shorter} becomes {whole}: patches are {patch} pixels wide")
    told = set()
    for name, image in pictures:
        size = input_size(image.shape[1], image.shape[2], shorter, patch)
        if min(size) < whole and size not in told:
            told.add(size)
            say(f"{name} is seen at {size[1]} x {size[0]} pixels, not {whole} or more: at most {MAX_TOKENS} patches")
        yield name, image


def find_photos(images: Path, count: int | None) -> dict[str, Path]:
    """The user's photos by name, sorted.

    Raises:
        SslkitError: there are none.
    """
    if images.is_file():
        return {images.name: images}
    if not images.is_dir():
        raise SslkitError(f"no photo and no folder at {images}: --images takes either")
    found = sorted(p for p in images.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
    if not found:
        raise SslkitError(f"no photo in {images}: files named {', '.join(sorted(PHOTO_SUFFIXES))} are looked for")
    return {str(path.relative_to(images)): path for path in found[:count]}


def photos_name(images: Path) -> str:
    """What a page on one's own photos is about: the name of their folder or file; see ``folder_name``."""
    return images.stem if images.suffix.lower() in PHOTO_SUFFIXES else folder_name(images)


def photos_stage(run: Run, stage: str, images: Path | None, inputs: Mapping[str, Path], force: bool) -> str:
    """The stage on one's own photos, beside the one on val.

    Args:
        run: whose stage.
        stage: what it is called on val.
        images: folder or file; None is val.
        inputs: of the stage; those named ``photo ...`` are the photos.
        force: replace what is there of another folder of the same name.

    Raises:
        SslkitError: it is there, and not to be replaced.
    """
    if images is None:
        return stage
    stage = f"{stage}:{as_variant(photos_name(images))}"

    def same(record: Result) -> bool:
        photos = {name: path for name, path in inputs.items() if name.startswith("photo ")}
        now = {name: found["sha256"] for name, found in fingerprints(photos, run.path).items()}
        return now == {name: was["sha256"] for name, was in record["inputs"].items() if name.startswith("photo ")}

    if not force:
        expect_same(run, stage, images, same)
    return stage


def expect_images(run: Run, images: Path | None, photos: Mapping[str, Path] | None) -> None:
    """Ask for one image at least.

    Raises:
        SslkitError: no photo can be read, or there is no val.
    """
    from sslkit.data.shards import open_split

    if photos is None:
        open_split(run.data, "val")
        return
    first = ""
    for name, path in photos.items():
        read = _read(path)
        if not isinstance(read, str):
            return
        first = first or f"{name}: {read}"
    if len(photos) == 1 and images is not None:
        raise SslkitError(f"{next(iter(photos.values()))}: {first.partition(': ')[2]}")
    raise SslkitError(f"no photo in {images} can be read, of {len(photos)}; the first is {first}")


def read_photos(photos: Mapping[str, Path]) -> Iterator[tuple[str, "Tensor"]]:
    """Names and (3, H, W) uint8 pictures; one that cannot be read is left out."""
    for name, path in photos.items():
        read = _read(path)
        if isinstance(read, str):
            # One bad photo among many is no reason to show none.
            say(f"{path} is left out: {read}")
        else:
            yield name, read


def _read(path: Path) -> "Tensor | str":
    """(3, H, W) uint8, or why it cannot be read."""
    from sslkit.data.images import decode

    try:
        return decode(path.read_bytes())
    except InterruptedRun:
        raise
    except SslkitError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def in_turns(labels: list[int]) -> list[int]:
    """Positions of images in turns: the first of each class, then the second of each, ...; -1 is a class as well.

    Prepared data lies class by class.

    >>> in_turns([0, 0, 0, 1, 1])
    [0, 3, 1, 4, 2]
    """
    import numpy as np

    from sslkit.data import labels as by

    return by.in_turns([rows for _, rows in by.by_class(np.array(labels, np.int64))]).tolist()


def class_of(split: "Split", index: int) -> str:
    """The name of an image's class; empty where it has no label."""
    label = int(split.labels[index])
    return split.classes[label] if label >= 0 else ""


def val_images(run: Run, count: int) -> Iterator[tuple[str, "Tensor"]]:
    """Keys, with the class where there is one, and images of val, in turns."""
    from sslkit.data.shards import open_split

    split = open_split(run.data, "val")
    for index in in_turns(split.labels.tolist())[:count]:
        name = class_of(split, index)
        yield f"{split.keys[index]} ({name})" if name else split.keys[index], split.image(index)
