"""The photos and masks of one's own that ``segment`` is given: what they are, and what their results are called."""

from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import UsageError
from stages.inputs.photo_folders import PLAIN, as_variant, folder_name

if TYPE_CHECKING:
    from sslkit.probes.segmentation.masks_on_disk import MaskFolder


def open_photos(
    images: Path | None, masks: Path | None, data: Path | None, count: int | None, binary: bool, void: int
) -> "MaskFolder | None":
    """What ``--images`` and ``--masks`` name; None without them.

    Raises:
        UsageError: one of the two alone, or photos and ``--data`` at once.
        SslkitError: see ``masks_on_disk.open_folder``.
    """
    if (images is None) != (masks is None):
        raise UsageError("--images DIR and --masks DIR go together: photos, and masks of the same names")
    if images is None or masks is None:
        return None
    if data is not None:
        raise UsageError("--data RUN and --images DIR are two sets of photos: name one of them")
    from sslkit.probes.segmentation.masks_on_disk import open_folder

    return open_folder(images, masks, count, binary, void)


def variant_of(images: Path, masks: Path) -> str:
    """What the results are called: the folder that holds both, and that of the photos unless its name says nothing."""
    images, masks = images.resolve(), masks.resolve()
    if images.parent != masks.parent or not images.parent.name:
        return as_variant(folder_name(images))
    own = [] if images.name.lower() in PLAIN else [images.name]
    return as_variant("-".join([images.parent.name, *own]))
