"""What sources share whose images are files in a folder or an archive, each with a class name."""

from abc import abstractmethod
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np

from sslkit.data import images
from sslkit.data.prepare import formats
from sslkit.data.prepare.archives.files import Files
from sslkit.data.prepare.archives.fingerprints import files_fingerprint
from sslkit.data.prepare.archives.opening import open_files
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError


class ListedSource(Source):
    """Image files whose splits and class names ``arrange`` finds; the other files are counted as left out."""

    needs: str
    """What ``--root`` names, for the message when it is missing."""

    @abstractmethod
    def arrange(self, files: Files) -> dict[str, tuple[list[int], list[str]]]:
        """Positions among the files and class names ("" for no label), of every split; also sets ``remarks``.

        Positions of tables that were read are added to ``tables``.
        """

    def open(self, scratch: Path) -> None:
        """List the files and arrange them."""
        self.tables: set[int] = set()
        self._files = self.list_files(scratch)
        self.remarks += self._files.remarks
        found = {split: rows for split, rows in self.arrange(self._files).items() if rows[0]}
        if "train" not in found:
            raise SslkitError(f"No train images found in {self._root} ({formats.what_is_there(self._files.names)})")
        self.classes = sorted({name for _, names in found.values() for name in names if name})
        numbers = {name: i for i, name in enumerate(self.classes)} | {"": -1}
        self._positions = {split: np.array(positions, np.int64) for split, (positions, _) in found.items()}
        self._labels = {s: np.array([numbers[n] for n in names], np.int64) for s, (_, names) in found.items()}
        used = np.zeros(len(self._files.names), bool)
        used[[*self.tables]] = True
        for positions in self._positions.values():
            used[positions] = True
        self.left_out = Counter(formats.kind(self._files.names[i]) for i in np.flatnonzero(~used))
        if self._files.hidden:
            self.left_out["hidden"] = self._files.hidden

    def list_files(self, scratch: Path) -> Files:
        """The files of the root."""
        return open_files(self._root, scratch)

    @cached_property
    def _root(self) -> Path:
        if self.root is None:
            raise UsageError(f"this source needs --root: {self.needs}")
        return Path(self.root).expanduser()

    def splits(self) -> dict[str, np.ndarray]:
        """Labels of every split."""
        return self._labels

    def read(self, split: str, index: int) -> Sample:
        """The file's own bytes."""
        position = int(self._positions[split][index])
        data = self._files.read(position)
        label = int(self._labels[split][index])
        return Sample(self._files.names[position], data, images.extension(data), label)

    def name(self, split: str, index: int) -> str:
        """The path below the root."""
        return self._files.names[int(self._positions[split][index])]

    def fingerprint(self) -> str:
        """Of the names and sizes of all files, or of the archive."""
        return files_fingerprint(self._root)
