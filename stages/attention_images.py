"""The images that `attn-viz` and `reconstruct` look at: one's own photos, or some of val."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError
from stages.output import say
from stages.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from sslkit.data.shards import Split

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def sizes_told(pictures: Iterator[tuple[str, "Tensor"]], shorter: int, patch: int) -> Iterator[tuple[str, "Tensor"]]:
    """The same pictures, with a remark where one enters the encoder at another size than was asked for."""
    from sslkit.attention import MAX_TOKENS, model_size

    whole = max(shorter // patch, 1) * patch
    if whole != shorter:
        say(f"--image-size {shorter} becomes {whole}: patches are {patch} pixels wide")
    told = set()
    for name, image in pictures:
        size = model_size(image.shape[1], image.shape[2], shorter, patch)
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


def photos_variant(images: Path) -> str:
    """What a stage on one's own photos is called, beside the one on val: the name of their folder or file.

    >>> photos_variant(Path("album/My photos")), photos_variant(Path("cat.jpg"))
    ('My-photos', 'cat')
    """
    path = images.resolve()
    name = path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "photos"


def read_photos(photos: dict[str, Path]) -> Iterator[tuple[str, "Tensor"]]:
    """Names and (3, H, W) uint8 pictures; one that cannot be read is left out, unless it is the only one."""
    from sslkit.data.images import decode

    for name, path in photos.items():
        try:
            image = decode(path.read_bytes())
        except SslkitError as error:
            # One bad photo among many is no reason to show none.
            if len(photos) == 1:
                raise SslkitError(f"{path}: {error}") from error
            say(f"{path} is left out: {error}")
            continue
        yield name, image


def in_turns(labels: list[int]) -> list[int]:
    """Positions of images in turns: the first of each class, then the second of each, ...; -1 is a class as well.

    Prepared data lies class by class.

    >>> in_turns([0, 0, 0, 1, 1])
    [0, 3, 1, 4, 2]
    """
    seen: dict[int, int] = {}
    order = []
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, -1) + 1
        order.append((seen[label], label, index))
    return [index for _, _, index in sorted(order)]


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
