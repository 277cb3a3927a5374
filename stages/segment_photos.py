"""The photos and masks of one's own that ``segment`` is given: what they are, and what their results are called."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError, UsageError
from stages.run import Run

if TYPE_CHECKING:
    from sslkit.probes.masks_on_disk import MaskFolder

PLAIN = {"images", "imgs", "img", "image", "photos", "pictures", "jpegimages"}  # folder names that tell nothing


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
    from sslkit.probes.masks_on_disk import open_folder

    return open_folder(images, masks, count, binary, void)


def variant_of(images: Path, masks: Path) -> str:
    """What the results are called: the folder that holds both, and that of the photos unless its name says nothing."""
    images, masks = images.resolve(), masks.resolve()
    beside = images.parent == masks.parent and images.parent.name
    words = [images.parent.name] if beside else []
    words += [images.name] if not beside or images.name.lower() not in PLAIN else []
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(words)).strip("-.") or "photos"


def expect_same(run: Run, stage: str, images: Path, digest: str) -> None:
    """Other photos from a folder that happens to have the same name are no change of settings.

    Raises:
        SslkitError: results of theirs are there.
    """
    record = run.record(stage)
    if record is None or record["status"] != "done" or record["config"]["photos"] == digest:
        return
    was = record["how"]["images"]
    if Path(was).resolve() != images.resolve():
        raise SslkitError(
            f"{run.folder(stage)} is about the photos in {was}, and those in {images} would be called the same: rename "
            "one of the two folders, or --force puts these in their place"
        )


def places(**folders: Path | None) -> dict[str, str]:
    """Where the folders that were given lie, by option; for the record."""
    return {name: str(folder.resolve()) for name, folder in folders.items() if folder}
