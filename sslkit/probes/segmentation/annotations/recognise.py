"""Which layout a folder of photos and masks has: each is asked, the most specific first."""

import os
from collections.abc import Sequence
from pathlib import Path

from sslkit import registry
from sslkit.errors import SslkitError, named
from sslkit.probes.segmentation.annotations.layouts.base import PACKAGE, MaskedSet, MaskLayout, Meaning

DEPTH = 2  # folders around a dataset, such as VOCdevkit


def find_dataset(root: Path, split: str) -> MaskedSet:
    """The photos and masks of a dataset's folder, or of the only one within it.

    Raises:
        SslkitError: it is not a folder, no layout recognises it, or it holds several datasets.
    """
    if not root.is_dir():
        raise SslkitError(f"{root} is not a folder: --dataset requires an unpacked dataset")
    places = [root]
    for _ in range(DEPTH + 1):
        found = [(place, layout) for place in places if (layout := _layout_of(place))]
        if len(found) > 1:
            paths = [str(place) for place, _ in found]
            raise SslkitError(f"{root} holds {len(found)} datasets: name one, such as {named(paths, 4)}")
        if found:
            place, layout = found[0]
            return layout().find(place, _folders(place), split)
        places = [path for place in places for path in _folders(place).values()]
    titles = ", ".join(layout.title for layout in _layouts())
    there = named(sorted(path.name for path in root.iterdir()), 6) or "nothing"
    raise SslkitError(
        f"{root} is not laid out as {titles} are (it holds {there}): name the folders of photos and of masks, or the "
        "one that holds both, by --images DIR --masks DIR"
    )


def meaning_of(masks: Sequence[Path]) -> Meaning | None:
    """What a layout says that masks mean, by the names of the files; None if none does."""
    return next((meaning for layout in _layouts() if (meaning := layout.meaning(masks))), None)


def _layouts() -> list[type[MaskLayout]]:
    return sorted(registry.load_all(PACKAGE).values(), key=lambda layout: (-layout.specific, layout.title))


def _layout_of(place: Path) -> type[MaskLayout] | None:
    folders = _folders(place)
    return next((layout for layout in _layouts() if layout.recognise(folders)), None)


def _folders(place: Path) -> dict[str, Path]:
    """The folders in a folder by name in lower case."""
    with os.scandir(place) as entries:
        return {
            entry.name.lower(): Path(entry.path) for entry in sorted(entries, key=lambda e: e.name) if entry.is_dir()
        }
