"""Folders of one's own photos: what the results on them are called, and whether others are called the same."""

import re
from collections.abc import Callable
from pathlib import Path

from sslkit.errors import SslkitError
from stages.contract.layout import Result, Run

PLAIN = {"images", "imgs", "img", "image", "photos", "pictures", "jpegimages"}  # folder names that tell nothing


def folder_name(folder: Path) -> str:
    """A folder's name, or where it tells nothing that of the folder around it.

    >>> folder_name(Path("/data/ecssd-200/images")), folder_name(Path("/data/My album"))
    ('ecssd-200', 'My album')
    """
    folder = folder.resolve()
    return folder.parent.name if folder.name.lower() in PLAIN and folder.parent.name else folder.name


def as_variant(name: str) -> str:
    """A name as part of a stage's and its folder's.

    >>> as_variant("My album")
    'My-album'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "photos"


def expect_same(run: Run, stage: str, images: Path, same: Callable[[Result], bool]) -> None:
    """Other photos from a folder that happens to have the same name are no change of settings.

    Args:
        run: whose results.
        stage: with the variant that the folder's name gives.
        images: where the photos are now.
        same: whether those of an older ``stage.json`` are the same photos, wherever they were.

    Raises:
        SslkitError: results of other photos are there.
    """
    record = run.record(stage)
    was = record["how"].get("images") if record is not None and record["status"] == "done" else None
    if record is None or was is None or Path(was).resolve() == images.resolve() or same(record):
        return
    raise SslkitError(
        f"{run.folder(stage)} is about the photos in {was}, and those in {images} would be called the same: rename "
        "one of the two folders, or --force puts these in their place"
    )


def places(**folders: Path | None) -> dict[str, str]:
    """Where the folders that were given lie, by option; for the record."""
    return {name: str(folder.resolve()) for name, folder in folders.items() if folder}
