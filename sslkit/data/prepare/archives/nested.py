"""Tars inside a folder or inside another tar, read where they lie: nothing is unpacked."""

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from sslkit.data.prepare.archives.files import Files, Window
from sslkit.data.prepare.archives.tar import Tar
from sslkit.files import atomic

OUTER = -1  # the place of a file that is in no inner tar


class Nested(Files):
    """The files of a place, with chosen tars replaced by their members: ``train.tar/n01440764.tar/0.JPEG``.

    Args:
        outer: the place.
        wanted: whether to look into a tar, by its path in the place.

    Raises:
        SslkitError: a tar is damaged.
    """

    def __init__(self, outer: Files, wanted: Callable[[str], bool]):
        self._outer, self._paths = outer, list[Path]()
        self.remarks = [*outer.remarks]
        self._files, self._offsets, self._sizes, self.names = array("i"), array("q"), array("q"), []
        for i, name in enumerate(outer.names):
            window = outer.window(i) if _is_tar(name, wanted) else None
            if window is None:
                self._add(name, outer.sizes[i], OUTER, i)
                continue
            if window.path not in self._paths[-1:]:
                self._paths.append(window.path)
            for inner, size, offset in _members(window, f"{name}/", wanted, self.remarks):
                self._add(inner, size, len(self._paths) - 1, offset)
        self.sizes, self.places, self.hidden = self._sizes, range(len(self.names)), outer.hidden

    def _add(self, name: str, size: int, file: int, offset: int) -> None:
        self.names.append(name)
        self._sizes.append(size)
        self._files.append(file)
        self._offsets.append(offset)

    def window(self, index: int) -> Window | None:
        """Where a file's bytes lie."""
        file, offset = self._files[index], self._offsets[index]
        return self._outer.window(offset) if file == OUTER else Window(self._paths[file], offset, self.sizes[index])

    def read_whole(self, index: int) -> bytes:
        """Content of one file or member."""
        file, offset = self._files[index], self._offsets[index]
        if file == OUTER:
            return self._outer.read_whole(offset)
        return read_window(Window(self._paths[file], offset, self.sizes[index]))


def _is_tar(name: str, wanted: Callable[[str], bool]) -> bool:
    return name.lower().endswith(".tar") and wanted(name)


def _members(
    window: Window, prefix: str, wanted: Callable[[str], bool], remarks: list[str]
) -> Iterator[tuple[str, int, int]]:
    """(path, size, offset) of the members of a tar, and of those of wanted tars in it; adds their remarks."""
    tar = Tar(window.path, window)
    remarks += tar.remarks
    for i, name in enumerate(tar.names):
        inner = tar.window(i)
        if inner is None:
            remarks.append(f"{prefix}{name} is a sparse member of a tar, which is not read")
        elif _is_tar(f"{prefix}{name}", wanted):
            yield from _members(inner, f"{prefix}{name}/", wanted, remarks)
        else:
            yield f"{prefix}{name}", inner.size, inner.offset


def read_window(window: Window) -> bytes:
    """The bytes of a window.

    Raises:
        OSError: the file is shorter.
    """
    # Opened each time: a thousand tars of a class each are more than a process may hold open.
    descriptor = os.open(window.path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, window.size, window.offset)
    finally:
        os.close(descriptor)
    if len(data) != window.size:
        raise OSError(f"{window.path} ends before byte {window.offset + window.size}")
    return data


def copied_out(files: Files, index: int, scratch: Path) -> Window:
    """Where a file's bytes lie uncompressed: a copy in ``scratch`` if they are compressed."""
    window = files.window(index)
    if window is not None:
        return window
    copy = scratch / f".{files.names[index].replace('/', '-')}"
    if not copy.exists():
        with atomic(copy) as target:
            files.copy(index, target)
    return Window(copy, 0, files.sizes[index])
