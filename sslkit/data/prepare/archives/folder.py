"""A folder as files."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sslkit.data.prepare.archives.files import Files, Window, check_bytes
from sslkit.errors import number_of, some_of
from sslkit.files import open_regular


class Folder(Files):
    """Files below a folder; links are followed, as class folders are often links."""

    def __init__(self, root: Path):
        self.root = root
        empty: list[str] = []
        self.keep(list(_walk(str(root), empty)))
        shown = sorted(name for name in empty if not any(part.startswith(".") for part in name.split("/")))
        if shown:
            self.remarks = [f"{number_of(len(shown), 'folder', 'is')} empty: {some_of(shown, 5)}"]

    def read_whole(self, index: int) -> bytes:
        """Content of one file."""
        descriptor = open_regular(f"{self.root}/{self.names[index]}")
        with os.fdopen(descriptor, "rb", buffering=0) as handle:
            check_bytes(os.fstat(descriptor).st_size)  # it may have grown
            return handle.readall()

    def window(self, index: int) -> Window | None:
        """The file itself."""
        path = self.root / self.names[index]
        return Window(path, 0, self.sizes[index]) if path.is_file() else None


def _walk(root: str, empty: list[str]) -> Iterator[tuple[str, int, Any]]:
    """(name, size, identity) of everything below a folder that is no folder, with size 0 if it is no regular file.

    What cannot be read is listed too, so that it is reported instead of silently missing: dangling links, FIFOs, and
    links to a folder above them, which would be circles and are not followed. Empty folders go into ``empty``.
    """
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", (_identity(os.stat(root)),))]  # noqa: PTH116
    while waiting:
        folder, prefix, above = waiting.pop()
        count = 0
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries, 1):  # noqa: B007  read after the loop
                name = f"{prefix}{entry.name}"
                try:
                    status = entry.stat()
                except OSError:
                    yield name, 0, hash(name)
                    continue
                here = _identity(status)
                if not stat.S_ISDIR(status.st_mode):
                    yield name, status.st_size if stat.S_ISREG(status.st_mode) else 0, hash(here)
                elif here in above:
                    yield name, 0, hash(name)
                else:
                    waiting.append((entry.path, f"{name}/", (*above, here)))
        if not count and prefix:
            empty.append(prefix[:-1])


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
