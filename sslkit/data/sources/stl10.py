"""STL-10 (Coates et al., 2011): 96 px images, the binaries as distributed or as torchvision downloads them.

``train_X.bin`` and ``unlabeled_X.bin`` are train, the second without labels; ``test_X.bin`` is val.
"""

import re
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from sslkit.data import images
from sslkit.data.prepare import formats
from sslkit.data.prepare.archives.files import Files, Window
from sslkit.data.prepare.archives.fingerprints import files_fingerprint
from sslkit.data.prepare.archives.nested import copied_out, read_window
from sslkit.data.prepare.archives.opening import open_files
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError

SIDE = 96  # pixels
BYTES = 3 * SIDE * SIDE
PIXELS = re.compile(r"(train|test|unlabell?ed)_X\.bin", re.I)
ARCHIVE = "stl10_binary.tar.gz"
NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


class Stl10(Source):
    """Labelled and unlabelled images for learning; the official test set is val."""

    specific = 60
    dataset_classes = len(NAMES)

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """By the binaries, or by the archive of them that torchvision keeps."""
        names = {PurePosixPath(name).name for name in files.names}
        if any(map(PIXELS.fullmatch, names)) or ARCHIVE in names:
            return "STL-10: train_X.bin, unlabeled_X.bin and test_X.bin"
        return None

    def open(self, scratch: Path) -> None:
        """Find the binaries; compressed ones are unpacked to ``scratch``."""
        files = open_files(self._root, scratch)
        at = {PurePosixPath(name).name.lower(): i for i, name in enumerate(files.names)}
        archive = self._root / files.names[at[ARCHIVE]] if ARCHIVE in at else None
        if archive is not None and not any(map(PIXELS.fullmatch, at)):
            files = open_files(archive, scratch)
            at = {PurePosixPath(name).name.lower(): i for i, name in enumerate(files.names)}
        unlabelled = "unlabeled" if "unlabeled_x.bin" in at else "unlabelled"
        parts = {"train": ("train", unlabelled), "val": ("test",)}
        self._parts: dict[str, list[tuple[Window, int]]] = {split: [] for split in parts}
        self._labels: dict[str, np.ndarray] = {}
        used = set[int]()
        for split, names in parts.items():
            labels = []
            for name in names:
                if f"{name}_x.bin" not in at:
                    continue
                pixels, truth = at[f"{name}_x.bin"], at.get(f"{name}_y.bin")
                used |= {pixels} if truth is None else {pixels, truth}
                window = copied_out(files, pixels, scratch)
                labels.append(_labels(files, pixels, truth))
                self._parts[split].append((window, len(labels[-1])))
            if labels:
                self._labels[split] = np.concatenate(labels)
        if "train" not in self._labels:
            raise SslkitError(f"No train_X.bin found in {self._root} ({formats.what_is_there(files.names)})")
        self.classes = NAMES
        if "class_names.txt" in at:
            used.add(at["class_names.txt"])
            named = files.need(at["class_names.txt"]).decode(errors="replace").split()
            if len(named) == len(NAMES):
                self.classes = named
            else:
                self.remarks.append(f"class_names.txt is not used: it holds {len(named)} names of {len(NAMES)} classes")
        self.left_out = formats.kinds(name for i, name in enumerate(files.names) if i not in used)
        without = int((self._labels["train"] < 0).sum())
        self.remarks.append(
            f"train is {len(self._labels['train']) - without} labelled images and {without} without labels"
        )
        if "val" in self._labels:
            self.remarks.append("val is the official test set")

    @cached_property
    def _root(self) -> Path:
        if self.root is None:
            raise UsageError("the source 'stl10' needs --root: the folder stl10_binary, or its archive")
        return Path(self.root).expanduser()

    def splits(self) -> dict[str, np.ndarray]:
        """Labels from 0; the files count from 1."""
        return self._labels

    def read(self, split: str, index: int) -> Sample:
        """The image as PNG, which is lossless."""
        place = index
        for window, count in self._parts[split]:
            if place < count:
                data = read_window(Window(window.path, window.offset + place * BYTES, BYTES))
                pixels = np.frombuffer(data, np.uint8).reshape(3, SIDE, SIDE).transpose(2, 1, 0)  # columns come first
                key, label = f"{split}/{index:06d}", int(self._labels[split][index])
                return Sample(key, images.encode_png(np.ascontiguousarray(pixels)), "png", label)
            place -= count
        raise IndexError(index)

    def fingerprint(self) -> str:
        """Of the names and sizes of all files, or of the archive."""
        return files_fingerprint(self._root)


def _labels(files: Files, pixels: int, truth: int | None) -> np.ndarray:
    """Labels from 0 of one binary, -1 without a file of labels.

    Raises:
        SslkitError: the binaries do not fit each other.
    """
    name, (count, rest) = files.names[pixels], divmod(files.sizes[pixels], BYTES)
    if rest or not count:
        raise SslkitError(
            f"{name} has {files.sizes[pixels]} bytes, not a multiple of {BYTES} (3 x 96 x 96): copy it again"
        )
    if truth is None:
        return np.full(count, -1, np.int64)
    labels = np.frombuffer(files.need(truth), np.uint8).astype(np.int64) - 1
    if len(labels) != count or labels.min() < 0 or labels.max() >= len(NAMES):
        raise SslkitError(
            f"{files.names[truth]} holds {len(labels)} labels for {count} images: expected one each, 1 to 10"
        )
    return labels
