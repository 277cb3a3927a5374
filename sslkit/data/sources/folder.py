"""A folder of images, or an archive of one: class folders, or a flat folder without labels.

Folders that only wrap others are skipped. ``train/`` may have ``val/`` (or ``test/``) next to it, and ``images/`` may
have ``masks/`` next to it: foreground masks with the file names of their photos, kept as ``mask.png``.
"""

from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from sslkit.data import images
from sslkit.data.prepare.archives import Files, files_fingerprint, open_files
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError

EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
TRAIN = ("train", "training")
VAL = ("val", "valid", "validation", "test", "testing")  # the first that exists
Entry = tuple[int, tuple[str, ...]]  # position among the files, and the parts of its path below what wraps it


class FolderSource(Source):
    """Images from ``--root``: a folder, ``.tar``, ``.tar.gz`` or ``.zip``."""

    def open(self, scratch: Path) -> None:
        """List the files, and find their classes, splits and masks."""
        self._files: Files = open_files(self._root, scratch)
        found = [
            (i, PurePosixPath(name).parts)
            for i, name in enumerate(self._files.names)
            if PurePosixPath(name).suffix.lower() in EXTENSIONS
        ]
        if not found:
            raise SslkitError(f"No images found in {self._root} ({_what_is_there(self._files.names)})")
        found = _unwrap(found, is_archive=not self._root.is_dir())
        self._masks: dict[str, int] = {}
        if {parts[0] for _, parts in found} == {"images", "masks"}:
            self._masks = {"/".join(_stem(parts[1:])): i for i, parts in found if parts[0] == "masks"}
            found = [(i, parts[1:]) for i, parts in found if parts[0] == "images"]
        self._splits = {split: _labelled(entries, self._root) for split, entries in _split(found).items()}
        self.classes = sorted({name for names, _ in self._splits.values() for name in names if name})

    @cached_property
    def _root(self) -> Path:
        if self.root is None:
            raise UsageError("the source 'folder' needs --root: a folder of images, or a .tar, .tar.gz or .zip of one")
        return Path(self.root).expanduser()

    def splits(self) -> dict[str, np.ndarray]:
        """Labels by class folder; -1 for a flat folder."""
        numbers = {name: i for i, name in enumerate(self.classes)} | {"": -1}
        return {s: np.array([numbers[n] for n in names], np.int64) for s, (names, _) in self._splits.items()}

    def read(self, split: str, index: int) -> Sample:
        """The file's own bytes, with its mask where there is one."""
        names, entries = self._splits[split]
        position, parts = entries[index]
        data = self._files.read(position)
        mask = self._masks.get("/".join(_stem(parts)))
        return Sample(
            key="/".join(parts),
            image=data,
            extension=images.extension(data),
            label=self.classes.index(names[index]) if names[index] else -1,
            extras={} if mask is None else {"mask.png": images.mask_png(self._files.read(mask))},
        )

    def name(self, split: str, index: int) -> str:
        """The path below the root."""
        return self._files.names[self._splits[split][1][index][0]]

    def fingerprint(self) -> str:
        """Of the names and sizes of all files, or of the archive."""
        return files_fingerprint(self._root)


def _what_is_there(names: list[str]) -> str:
    """What to tell someone whose folder holds no images."""
    tars = sum(name.lower().endswith(".tar") for name in names)
    if tars:
        is_there = ".tar file is" if tars == 1 else ".tar files are"
        return f"{tars} {is_there} there; for WebDataset shards use --source shards"
    return f"looked for {', '.join(sorted(EXTENSIONS))}"


def _unwrap(found: list[Entry], is_archive: bool) -> list[Entry]:
    """The entries without leading folders that hold everything.

    In a folder named on the command line, a single folder with only images in it is a class; in an archive it is the
    folder that was packed.
    """
    while True:
        first = {parts[0] for _, parts in found}
        deepest = 1 if is_archive else 2
        if len(first) > 1 or first & {*TRAIN, *VAL} or min(len(parts) for _, parts in found) <= deepest:
            return found
        found = [(i, parts[1:]) for i, parts in found]


def _split(found: list[Entry]) -> dict[str, list[Entry]]:
    """The entries of every split, without the split's folder; without a ``train`` folder everything is train."""
    by_top: dict[str, list[Entry]] = {}
    for i, parts in found:
        if len(parts) > 1:
            by_top.setdefault(parts[0], []).append((i, parts[1:]))
    train = next((by_top[name] for name in TRAIN if name in by_top), None)
    val = next((by_top[name] for name in VAL if name in by_top), None)
    if train is None:
        return {"train": found}
    return {"train": train} | ({} if val is None else {"val": val})


def _labelled(entries: list[Entry], root: Path) -> tuple[list[str], list[Entry]]:
    """(class name of every entry, entries); the name is empty in a flat folder."""
    loose = [parts[0] for _, parts in entries if len(parts) == 1]
    if len(loose) == len(entries):
        return [""] * len(entries), entries
    if loose:
        raise SslkitError(
            f"{len(loose)} images are next to class folders in {root} (such as {loose[0]}): "
            "move them into a class folder, or all images into one flat folder"
        )
    return [parts[0] for _, parts in entries], entries


def _stem(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*parts[:-1], PurePosixPath(parts[-1]).stem)
