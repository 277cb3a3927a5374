"""Folders of photos: names for the results on them, and a check that two folders do not share one."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from sslkit.errors import SslkitError
from stages.contract.layout import Result, Run

PLAIN = {"images", "imgs", "img", "image", "photos", "pictures", "jpegimages"}  # folder names without information


def folder_name(folder: Path) -> str:
    """The name of a folder, or of its parent if the folder is just called ``images`` or similar.

    >>> folder_name(Path("/data/ecssd-200/images")), folder_name(Path("/data/My album"))
    ('ecssd-200', 'My album')
    """
    folder = folder.resolve()
    return folder.parent.name if folder.name.lower() in PLAIN and folder.parent.name else folder.name


def as_variant(name: str) -> str:
    """A name in characters that are safe in a folder's name.

    >>> as_variant("My album")
    'My-album'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "photos"


def expect_same(
    run: Run, stage: str, folders: Mapping[str, Path | None], same: Callable[[Result], bool], otherwise: str = ""
) -> None:
    """Check that a stage's results are on these photos, not on others from a folder of the same name.

    Args:
        run: the run.
        stage: its id, with the variant named after the folder.
        folders: where the photos are now, and what belongs to them, by option.
        same: whether the photos of an older ``stage.json`` are the same, wherever they were.
        otherwise: what else may be done.

    Raises:
        SslkitError: the results are on other photos.
    """
    record = run.record(stage)
    if record is None or record["status"] != "done":
        return
    for option, now in folders.items():
        was = record["how"].get(option)
        if now is None or was is None or Path(was).resolve() == now.resolve() or same(record):
            continue
        what = "masks" if option == "masks" else "photos"
        raise SslkitError(
            f"{run.folder(stage)} holds results on the {what} in {was}, and those on {now} would have the same name: "
            f"rename one of the two folders, or replace the results with --force{otherwise}"
        )


def places(**folders: Path | None) -> dict[str, str]:
    """The paths of the given folders by option, for the record."""
    return {name: str(folder.resolve()) for name, folder in folders.items() if folder}
