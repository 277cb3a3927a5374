"""The user's own photos and masks for ``segment``, and what their results are called."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.inputs.enlarging import say_enlarged, say_enlarged_photos
from stages.inputs.photo_folders import PLAIN, as_variant
from stages.options.masked_photos import MaskedPhotoOptions

if TYPE_CHECKING:
    from sslkit.probes.segmentation.mask_folder import MaskFolder

PLAIN_MASKS = {"masks", "mask"}  # folder names without information
VOID = 255


def open_photos(options: MaskedPhotoOptions, data: Path | None) -> "MaskFolder | None":
    """The photos and masks that the options name; None for those of the prepared data.

    Raises:
        UsageError: options that do not go together.
        SslkitError: see ``mask_folder.open_folder``.
    """
    if (options.images is None) != (options.masks is None):
        raise UsageError("--images DIR and --masks DIR require each other: photos, and masks of the same names")
    own = options.images is not None or options.dataset is not None
    if options.images is not None and options.dataset is not None:
        raise UsageError("--images DIR and --dataset DIR are two sets of photos: name only one")
    if own and data is not None:
        raise UsageError(
            f"--data RUN and --{'images' if options.images else 'dataset'} DIR are two sets of photos: name only one"
        )
    if options.split is not None and options.dataset is None:
        raise UsageError("--split NAME chooses a part of --dataset DIR; for two folders, name those of the split")
    alone = [
        f"--{name}" for name in ("list", "palette", "void", "background") if getattr(options, _field(name)) is not None
    ]
    if not own:
        if alone:
            verb = "requires" if len(alone) == 1 else "require"
            raise UsageError(f"{' and '.join(alone)} {verb} --images DIR --masks DIR, or --dataset DIR")
        return None
    from sslkit.probes.segmentation.annotations.colour_table import read_table
    from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet
    from sslkit.probes.segmentation.annotations.pairs import pair
    from sslkit.probes.segmentation.annotations.recognise import find_dataset
    from sslkit.probes.segmentation.annotations.values import MaskOptions

    if options.dataset is not None:
        found = find_dataset(options.dataset, options.split or "val")
    else:
        assert options.images is not None
        assert options.masks is not None
        found = MaskedSet(pair(options.images, options.masks))
    if options.listed is not None:
        if not options.listed.is_file():
            raise SslkitError(f"--list {options.listed} is not a file")
        found = replace(found, listed=options.listed)
    table = read_table(options.palette) if options.palette else None
    said = MaskOptions(options.binary, options.void, options.background, table)
    # These import torch, which mistakes need not wait for.
    from sslkit.data.pixels.rules import MAX_PIXELS, PixelRules
    from sslkit.probes.segmentation.mask_folder import open_folder

    return open_folder(found, said, options.count, PixelRules(max_pixels=options.max_pixels or MAX_PIXELS))


def _field(name: str) -> str:
    return "listed" if name == "list" else name


def settings(options: MaskedPhotoOptions, folder: "MaskFolder | None") -> Result:
    """The settings of the masks that results depend on."""
    void = sorted(value for value in folder.values.void if value >= 0) if folder else []
    typed = options.void is not None and options.void.strip().lower() == "none"
    found: Result = {
        "photos": folder.digest if folder else "val",
        "count": options.count,
        "binary": options.binary,
        "void": "none" if typed else (void[0] if len(void) == 1 else void or VOID),
    }
    found |= {} if options.max_pixels is None else {"max_pixels": options.max_pixels}
    return found | ({"background": options.background} if options.background is not None else {})


def variant_of(options: MaskedPhotoOptions) -> str:
    """The variant's name: ``--name``, or what the folders are called; empty for the prepared data.

    Masks of the same photos in another folder have another name, so their results are next to each other.
    """
    if options.name is not None:
        return as_variant(options.name)
    parts: list[str] = []
    if options.dataset is not None:
        parts = [options.dataset.resolve().name, *([options.split] if options.split not in (None, "val") else [])]
    elif options.images is not None and options.masks is not None:
        parts = _of_folders(options.images.resolve(), options.masks.resolve())
    if parts and options.listed is not None:
        parts.append(options.listed.stem)
    return as_variant("-".join(parts)) if parts else ""


def _of_folders(images: Path, masks: Path) -> list[str]:
    """What tells two folders from others.

    >>> _of_folders(Path("/d/pets/images"), Path("/d/pets/masks"))
    ['pets']
    >>> _of_folders(Path("/d/pets/images"), Path("/d/pets/trimaps"))
    ['pets', 'trimaps']
    >>> _of_folders(Path("/d/city/leftImg8bit/val"), Path("/d/city/gtFine/val"))
    ['leftImg8bit', 'val', 'gtFine']
    >>> _of_folders(Path("/d/ADE/images/validation"), Path("/d/ADE/annotations/validation"))
    ['ADE', 'validation', 'annotations']
    """
    shared = Path(os.path.commonpath([images, masks]))
    photos, drawn = (path.relative_to(shared).parts for path in (images, masks))
    own = [part for part in photos if part.lower() not in PLAIN]
    flat = len(photos) <= 1 and len(drawn) <= 1
    around = [shared.name] if shared.name and (flat or (photos and photos[0].lower() in PLAIN)) else []
    return [*around, *own, *(part for part in drawn if part.lower() not in PLAIN_MASKS and part not in photos)] or [
        images.name
    ]


def say_enlarged_ones(run: Run, folder: "MaskFolder | None", size: int) -> None:
    """Say it where photos, or prepared images, are smaller than the shorter side that they get."""
    if folder is None:
        say_enlarged(run, size, ["val"])
    else:
        say_enlarged_photos(folder.sizes(), size)
