"""Tiny-ImageNet (Le and Yang, 2015): 100,000 + 10,000 images of 64 px in 200 classes, the folder or zip as distributed.

``train/WNID/images/`` holds the images of a class, ``val/images/`` those of val, whose classes are in
``val/val_annotations.txt``. The test images have no labels and are not used.
"""

import re
from pathlib import Path

from sslkit.data.prepare.archives.files import Files
from sslkit.data.prepare.listed import ListedSource
from sslkit.errors import number_of

TRAIN = re.compile(r"(?:^|.*/)train/([^/]+)/images/[^/]+\.jpe?g", re.I)
VAL = re.compile(r"(?:^|.*/)val/(?:images/|([^/]+)/(?:images/)?)[^/]+\.jpe?g", re.I)
TEST = re.compile(r"(?:^|.*/)test/(?:.*/)?[^/]+\.jpe?g", re.I)
ANNOTATIONS = re.compile(r"(?:^|.*/)val_annotations\.txt", re.I)


class TinyImagenet(ListedSource):
    """The folder ``tiny-imagenet-200``, or an archive of it; classes are named by wnid."""

    specific = 50
    dataset_classes, layout_of = 200, "Tiny-ImageNet"
    needs = "the folder tiny-imagenet-200, or its zip"

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """By a class folder's ``images`` and val's annotations."""
        if any(map(ANNOTATIONS.fullmatch, files.names)) and any(map(TRAIN.fullmatch, files.names)):
            return "Tiny-ImageNet: train/WNID/images and val_annotations.txt"
        return None

    def arrange(self, files: Files) -> dict[str, tuple[list[int], list[str]]]:
        """Train by folder, val by the table."""
        rows: dict[str, tuple[list[int], list[str]]] = {"train": ([], []), "val": ([], [])}
        named: dict[str, str] = {}
        unused = 0
        for i, name in enumerate(files.names):
            if ANNOTATIONS.fullmatch(name):
                self.tables.add(i)
                lines = files.need(i).decode(errors="surrogateescape").splitlines()
                named = {row[0]: row[1] for row in (line.split("\t") for line in lines) if len(row) > 1}
        for i, name in enumerate(files.names):
            for split, found in (("train", TRAIN.fullmatch(name)), ("val", VAL.fullmatch(name))):
                if found:
                    rows[split][0].append(i)
                    rows[split][1].append(found[1] or named.get(name.rpartition("/")[2], ""))
                    break
            else:
                unused += bool(TEST.fullmatch(name))
        if unused:
            self.remarks.append(f"test is not used: its {number_of(unused, 'image', 'has')} no labels")
        missing = rows["val"][1].count("")
        if missing:
            self.remarks.append(f"{number_of(missing, 'image of val', 'has')} no label in val_annotations.txt")
        return rows
