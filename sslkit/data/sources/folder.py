"""A folder of images, or an archive of one: class folders, or a flat folder without labels.

Folders that only wrap others are skipped. ``train/`` may have ``val/`` (or ``test/``) next to it, in any case, or below
each class; and ``images/`` may have ``masks/`` next to it: foreground masks with the file names of their photos, kept
as ``mask.png``.
"""

from collections import Counter
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from sslkit.data import images
from sslkit.data.prepare import formats
from sslkit.data.prepare.archives import Files, files_fingerprint, open_files
from sslkit.data.prepare.split_names import split_named
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError

Entry = tuple[int, tuple[str, ...]]  # position among the files, and the parts of its path below what wraps it


class FolderSource(Source):
    """Images from ``--root``: a folder, ``.tar``, ``.tar.gz`` or ``.zip``."""

    specific = -100  # any other source that recognises a folder knows more about it

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """Whatever holds an image."""
        suffixes = formats.readable()
        return "images" if any(PurePosixPath(name).suffix.lower() in suffixes for name in files.names) else None

    def open(self, scratch: Path) -> None:
        """List the files, and find their classes, splits and masks."""
        self._files: Files = open_files(self._root, scratch)
        suffixes = formats.readable()
        found: list[Entry] = []
        for i, name in enumerate(self._files.names):
            if PurePosixPath(name).suffix.lower() in suffixes:
                found.append((i, PurePosixPath(name).parts))
            else:
                self.left_out[formats.kind(name)] += 1
        if self._files.hidden:
            self.left_out["hidden"] = self._files.hidden
        if not found:
            raise SslkitError(f"No images found in {self._root} ({formats.what_is_there(self._files.names)})")
        self._note_empty_classes(found)
        found = _unwrap(found, is_archive=not self._root.is_dir())
        self._masks: dict[str, int] = {}
        if {parts[0] for _, parts in found} == {"images", "masks"}:
            self._masks = {"/".join(_stem(parts[1:])): i for i, parts in found if parts[0] == "masks"}
            found = [(i, parts[1:]) for i, parts in found if parts[0] == "images"]
        self._splits = {split: _labelled(entries, self._root) for split, entries in self._split(found).items()}
        self._note_equal_files()
        self.classes = sorted({name for names, _ in self._splits.values() for name in names if name})
        self.took = f"{'class folders' if self.classes else 'images without class folders'}{self.took}"

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

    def _split(self, found: list[Entry]) -> dict[str, list[Entry]]:
        """The entries of every split, without the split's folder; without a ``train`` folder everything is train."""
        found = _splits_first(found)
        tops = Counter(parts[0] if len(parts) > 1 else "" for _, parts in found)
        named: dict[str, list[str]] = {}
        for top in sorted(tops):
            named.setdefault(split_named(top) or "", []).append(top)
        if "train" not in named:
            self.took = ""
            return {"train": found}
        chosen = {"train": named["train"][0]}
        held_out = named.get("val") or named.get("test")
        if held_out:
            chosen["val"] = held_out[0]
        self.took = f" in {' and '.join(f'{top}/' for top in chosen.values())}"
        unused = [f"{top or 'top folder'} ({tops[top]})" for top in sorted(tops) if top not in chosen.values()]
        if unused:
            self.remarks.append(f"images that are in none of the splits used: {', '.join(unused)}")
        return {
            split: [(i, parts[1:]) for i, parts in found if len(parts) > 1 and parts[0] == top]
            for split, top in chosen.items()
        }

    def _note_empty_classes(self, found: list[Entry]) -> None:
        """Remark on folders all of whose files are left out: a class that would vanish, and on kinds to convert."""
        kept = {parts[:-1] for _, parts in found}
        gone: dict[tuple[str, ...], Counter[str]] = {}
        taken = {i for i, _ in found}
        for i, name in enumerate(self._files.names):
            folder = PurePosixPath(name).parent.parts
            if i not in taken and folder not in kept and formats.kind(name) in formats.ADVICE:
                gone.setdefault(folder, Counter())[formats.kind(name)] += 1
        for folder, kinds in list(gone.items())[:5]:
            what = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            self.remarks.append(f"{'/'.join(folder) or 'the top folder'} holds no image that can be read ({what})")
        self.remarks += formats.advice(self.left_out)

    def _note_equal_files(self) -> None:
        """Remark on images of val that are, by a link, images of train."""
        if "val" in self._splits:
            train, val = ({self._files.places[i] for i, _ in self._splits[s][1]} for s in ("train", "val"))
            if train & val:
                self.remarks.append(
                    f"{len(train & val)} of {len(val)} images of val are images of train: the same files, by links"
                )


def _unwrap(found: list[Entry], is_archive: bool) -> list[Entry]:
    """The entries without leading folders that hold everything.

    In a folder named on the command line, a single folder with only images in it is a class; in an archive it is the
    folder that was packed.
    """
    while True:
        first = {parts[0] for _, parts in found}
        deepest = 1 if is_archive else 2
        if len(first) > 1 or any(map(split_named, first)) or min(len(parts) for _, parts in found) <= deepest:
            return found
        found = [(i, parts[1:]) for i, parts in found]


def _splits_first(found: list[Entry]) -> list[Entry]:
    """``bottle/train/0.png`` as ``train/bottle/0.png``, if every top folder has a split ``train`` below it."""
    below: dict[str, set[str]] = {}
    for _, parts in found:
        below.setdefault(parts[0], set()).add(parts[1] if len(parts) > 2 else "")
    if not all(any(split_named(name) == "train" for name in names) for names in below.values()):
        return found
    return [(i, (parts[1], parts[0], *parts[2:])) for i, parts in found]


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
