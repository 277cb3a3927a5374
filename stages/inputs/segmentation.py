"""The user's own photos and masks for ``segment``, and what their results are called."""

from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import UsageError
from stages.inputs.photo_folders import PLAIN, as_variant, folder_name

if TYPE_CHECKING:
    from sslkit.probes.segmentation.mask_folder import MaskFolder


def open_photos(
    images: Path | None, masks: Path | None, data: Path | None, count: int | None, binary: bool, void: int
) -> "MaskFolder | None":
    """The photos of ``--images`` with the masks of ``--masks``; None without these options.

    Raises:
        UsageError: only one of the two options, or both photos and ``--data``.
        SslkitError: see ``mask_folder.open_folder``.
    """
    if (images is None) != (masks is None):
        raise UsageError("--images DIR and --masks DIR require each other: photos, and masks of the same names")
    if images is None or masks is None:
        return None
    if data is not None:
        raise UsageError("--data RUN and --images DIR are two sets of photos: name only one")
    from sslkit.probes.segmentation.mask_folder import open_folder

    return open_folder(images, masks, count, binary, void)


def variant_of(images: Path, masks: Path) -> str:
    """The variant's name: the folder that holds both, followed by that of the photos unless its name is generic."""
    images, masks = images.resolve(), masks.resolve()
    if images.parent != masks.parent or not images.parent.name:
        return as_variant(folder_name(images))
    own = [] if images.name.lower() in PLAIN else [images.name]
    return as_variant("-".join([images.parent.name, *own]))
