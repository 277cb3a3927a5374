"""A folder of images, or an archive of one: class folders, or a flat folder without labels.

Folders that only wrap others are skipped. ``train/`` may have ``val/`` (or ``test/``) next to it, in any case, or below
each class; and ``images/`` may have ``masks/`` next to it: foreground masks with the file names of their photos, kept
as ``mask.png``.
"""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from sslkit.data import images
from sslkit.data.prepare import formats
from sslkit.data.prepare.archives.files import Files
from sslkit.data.prepare.archives.fingerprints import files_fingerprint
from sslkit.data.prepare.archives.opening import open_files
from sslkit.data.prepare.folder_remarks import repeated_subfolders
from sslkit.data.prepare.label_tables.search import find_labels
from sslkit.data.prepare.label_tables.table import class_order
from sslkit.data.prepare.split_names import split_named
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError, number_of

PLAIN = re.compile(
    r"(.*[-_ ])?(images?|imgs?|photos?|pictures?|pics|jpegimages|jpegs?|pngs?|data|files?|part|batch)([-_ ]?\d+)?", re.I
)  # names of folders that say nothing about what is in them
Entry = tuple[int, tuple[str, ...]]  # position among the files, and the parts of its path below what wraps it


class FolderSource(Source):
    """Images from ``--root``: a folder, ``.tar``, ``.tar.gz`` or ``.zip``."""

    takes_labels = True
    specific = -100  # any other source that recognises a folder knows more about it

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """Whatever holds an image."""
        suffixes = formats.readable_among(files.names)
        return "images" if any(PurePosixPath(name).suffix.lower() in suffixes for name in files.names) else None

    def open(self, scratch: Path) -> None:
        """List the files, and find their classes, splits and masks."""
        self._files: Files = open_files(self._root, scratch)
        self.remarks += self._files.remarks
        suffixes = formats.readable_among(self._files.names)
        found: list[Entry] = []
        for i, name in enumerate(self._files.names):
            if PurePosixPath(name).suffix.lower() in suffixes:
                found.append((i, PurePosixPath(name).parts))
            else:
                broken = not PurePosixPath(name).suffix and (self._root / name).is_symlink()
                broken = broken and not (self._root / name).exists()
                self.left_out["broken link" if broken else formats.kind(name)] += 1
                if broken and self.left_out["broken link"] <= 5:
                    self.remarks.append(f"{name} is a link to nothing: its images, if any, are missing")
        if self._files.hidden:
            self.left_out["hidden"] = self._files.hidden
        if not found:
            first = self._files.read(0) if self._files.names else b""
            raise SslkitError(f"No images found in {self._root} ({formats.what_is_there(self._files.names, first)})")
        self._note_empty_classes(found)
        positions = [i for i, _ in found]
        found = _unwrap(found, is_archive=not self._root.is_dir())
        self._masks: dict[str, int] = {}
        if {parts[0] for _, parts in found} == {"images", "masks"}:
            self._masks = {"/".join(_stem(parts[1:])): i for i, parts in found if parts[0] == "masks"}
            found = [(i, parts[1:]) for i, parts in found if parts[0] == "images"]
        self._tops: dict[str, str] = {}
        self._test_is_val = False
        splits = self._split(found)
        self._splits = self._by_tables(splits, positions)
        self.classes = class_order(name for names, _ in self._splits.values() for name in names if name)
        if self._test_is_val and not self.keeps_test():
            del self._splits["val"]
            self._tops.pop("val", None)
        self._note_equal_files()
        if not self._tables:
            self.took = "class folders" if self.classes else "images without class folders"
        self.took += f" in {' and '.join(f'{top}/' for top in self._tops.values())}" if self._tops else ""
        if self.classes and not self._tables:
            paths = [(self._files.names[i], parts) for i, parts in self._splits["train"][1]]
            self.remarks += repeated_subfolders(paths, self._root, PLAIN)

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
        mask = self._masks.get("/".join(_stem(parts))) if self._masks else None
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
            return {"train": found}
        chosen = {"train": named["train"][0]}
        held_out = named.get("val") or named.get("test")
        if held_out:
            chosen["val"] = held_out[0]
            self._test_is_val = "val" not in named
        self._tops = chosen
        unused = [f"{top or 'top folder'} ({tops[top]})" for top in sorted(tops) if top not in chosen.values()]
        if unused:
            self.remarks.append(f"images that are in none of the splits used: {', '.join(unused)}")
        return {
            split: [(i, parts[1:]) for i, parts in found if len(parts) > 1 and parts[0] == top]
            for split, top in chosen.items()
        }

    def _by_tables(
        self, splits: dict[str, list[Entry]], positions: list[int]
    ) -> dict[str, tuple[list[str], list[Entry]]]:
        """(class names, entries) of every split by tables that name the images' classes, or their splits only.

        Folders whose names are words for images, or a single one, are no classes. Hugging Face's ``metadata`` files
        say more than any folder.
        """
        found, remarks = find_labels(self._files, positions, self.labels, self._root)
        labels = {positions[k]: name for k, name in found.classes.items()}
        folders = {parts[0] for entries in splits.values() for _, parts in entries if len(parts) > 1}
        classes = {name for name in folders if not PLAIN.fullmatch(name)}
        told = any(PurePosixPath(name).stem == "metadata" for name in found.tables)
        self._tables = bool(labels) and bool(self.labels or told or len(classes) < 2)
        divides = found.divide and set(splits) == {"train"}
        tables = ", ".join(found.tables)
        if self._tables or (not labels and (divides or not found.divide)):
            self.remarks += remarks
        elif not labels:
            self.remarks.append(f"{tables} is not used, as the folders name the splits")
        elif divides or any(labels.get(i, parts[0]) != parts[0] for e in splits.values() for i, parts in e):
            self.remarks.append(
                f"{tables} {'gives the splits only' if divides else 'is not used'}, as the class folders name the "
                f"classes; --labels {next(iter(found.tables))} takes them from there"
            )
        for table in found.tables if self._tables or divides else ():
            if table in self._files.names:
                self.left_out -= Counter({formats.kind(table): 1})
        if divides:
            splits = self._divided(splits["train"], {positions[k]: split for k, split in found.splits.items()})
        if not self._tables:
            return self._by_folders(splits)
        self.took = f"images with labels in {tables}"
        return {split: ([labels.get(i, "") for i, _ in entries], entries) for split, entries in splits.items()}

    def _divided(self, entries: list[Entry], split_of: dict[int, str]) -> dict[str, list[Entry]]:
        """Entries of train and val by the splits that tables name; those in none are counted."""
        others = set(split_of.values()) - {"train"}
        self._test_is_val = others == {"test"}
        self.remarks += ["val is val and test of the tables"] if len(others) > 1 else []
        train = [entry for entry in entries if split_of.get(entry[0]) == "train"]
        val = [entry for entry in entries if split_of.get(entry[0]) in others]
        lost = len(entries) - len(train) - len(val)
        self.remarks += [f"{number_of(lost, 'image', 'is')} in no split of the tables and not used"] if lost else []
        return {"train": train, "val": val}

    def _by_folders(self, splits: dict[str, list[Entry]]) -> dict[str, tuple[list[str], list[Entry]]]:
        """(class names, entries) of every split by folders; a single folder ``img`` is no class."""
        found = {split: _labelled(entries, self._root) for split, entries in splits.items()}
        classes = {name for names, _ in found.values() for name in names if name}
        if len(classes) != 1:
            return found
        (only,) = classes
        if not PLAIN.fullmatch(only):
            self.remarks.append(
                f"all images are of one class, {only}, after the only folder; --labels FILE:COLUMN reads classes"
            )
            return found
        self.remarks.append(
            f"{only}, the only folder, is not taken for a class, so no image has a label; --labels FILE:COLUMN reads "
            "classes, or rename the folder if it is one"
        )
        return {split: ([""] * len(entries), entries) for split, entries in splits.items()}

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
            f"{number_of(len(loose), 'image', 'is')} next to class folders in {root} (such as {loose[0]}): "
            "move them into a class folder, or all images into one flat folder"
        )
    return [parts[0] for _, parts in entries], entries


def _stem(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*parts[:-1], PurePosixPath(parts[-1]).stem)
