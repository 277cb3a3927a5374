"""A tar as files, read where they lie."""

import os
import re
import struct
import tarfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sslkit.data.prepare.archives.files import COPY_BLOCK, Files, Window, check_readable, clean, repeated
from sslkit.errors import SslkitError, number_of

BLOCK = 512  # a tar's unit
# What damaged headers raise in tarfile besides its own errors: wrong numbers, absurd sizes, chains of headers.
HEADER_ERRORS = (EOFError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RecursionError, struct.error)
SPARSE = -1  # the offset of a member whose bytes do not lie together


class Tar(Files):
    """Members of an uncompressed tar, read where they lie.

    Args:
        path: the tar, or the file that holds it.
        part: where in that file it lies; None for all of it.
    """

    def __init__(self, path: Path, part: Window | None = None):
        self.path = path
        self._descriptor: int | None = None
        check_readable(path)
        try:
            entries, self.remarks = _tar_members(path, part)
        except (tarfile.TarError, *HEADER_ERRORS) as error:
            raise SslkitError(f"{path} is truncated or not a tar ({error}); download or create it again") from error
        self._offsets: Sequence[int] = self.keep(entries)

    def read_whole(self, index: int) -> bytes:
        """Content of one member."""
        if self._offsets[index] == SPARSE:
            raise OSError("a sparse member of the tar, which is not read; extract the tar and pack it again")
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        data = os.pread(self._descriptor, self.sizes[index], self._offsets[index])
        if len(data) != self.sizes[index]:
            raise OSError(f"{self.path} ends inside {self.names[index]}")
        return data

    def window(self, index: int) -> Window | None:
        """Where a member's content lies in the tar."""
        return None if self._offsets[index] == SPARSE else Window(self.path, self._offsets[index], self.sizes[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": None}

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)  # type: ignore[arg-type]


def _tar_members(path: Path, part: Window | None = None) -> tuple[list[tuple[str, int, Any]], list[str]]:
    """(name, size, offset) of the regular files, and remarks on others; a hard link has those of its target.

    Of several members with one name the last one counts, as it does when a tar is extracted.
    """
    with path.open("rb") as handle:
        start, size = (part.offset, part.size) if part else (0, path.stat().st_size)
        found = _plain_members(handle.fileno(), start, start + size)
        if found is not None:
            return [(name, *place) for name, place in dict(found).items()], repeated([n for n, _ in found], path.name)
        handle.seek(start)  # where tarfile begins to read
        with closing(tarfile.open(fileobj=handle, mode="r:")) as tar:
            members = _members(tar)
            end = tar.offset
        if part and end > part.offset + part.size:
            raise tarfile.ReadError(f"the tar at byte {part.offset} is cut off")
        # tarfile stops silently at a damaged header or a cut between members.
        _expect_end(handle.fileno(), end, start + size)
    places = [(clean(m.name), (m.size, SPARSE if m.issparse() else m.offset_data)) for m in members if m.isreg()]
    files, names = dict(places), [name for name, _ in places]
    for link in (m for m in members if m.islnk() and clean(m.linkname) in files):
        files[clean(link.name)] = files[clean(link.linkname)]
        names.append(clean(link.name))
    remarks = repeated(names, path.name)
    others = [m.name for m in members if not m.isdir() and clean(m.name) not in files]
    if others:
        members = number_of(len(others), f"member of {path.name}", "is")
        remarks.append(f"{members} no file but a link or device (such as {others[0]})")
    return [(name, *place) for name, place in files.items()], remarks


def _members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """All members; a negative size, which would lead back to an earlier one for ever, is an error."""
    members, place = [], -1
    while (member := tar.next()) is not None:
        if member.size < 0 or tar.offset <= place:
            raise tarfile.ReadError(f"{member.name[:100]} has a negative size")
        place = tar.offset
        members.append(member)
    return members


def _plain_members(descriptor: int, offset: int, end: int) -> list[tuple[str, tuple[int, int]]] | None:
    """(name, (size, offset)), four times faster; None for a tar with anything but short names of files and folders.

    Raises:
        tarfile.ReadError: it has no proper end.
    """
    files: list[tuple[str, tuple[int, int]]] = []
    while any(header := os.pread(descriptor, BLOCK, offset)):
        kind, name = header[156:157], header[:100].rstrip(b"\0").decode(errors="surrogateescape")
        octal = (header[124:136].rstrip(b" \0"), header[148:156].rstrip(b" \0"))
        plain = kind in (b"0", b"\0", b"5") and header[257:262] == b"ustar" and header[345:346] == b"\0"
        plain = plain and all(re.fullmatch(rb"[0-7]+", number) for number in octal) and "\0" not in name
        if not plain or sum(header) - sum(header[148:156]) + 8 * ord(" ") != int(octal[1], 8):
            return None
        size = int(octal[0], 8)
        if kind != b"5" and name[-1:] != "/":
            files.append((clean(name), (size, offset + BLOCK)))
        offset += BLOCK + -(-size // BLOCK) * BLOCK
    if len(header) != BLOCK or offset + BLOCK > end:
        return None
    _expect_end(descriptor, offset, end)
    return files


def _expect_end(descriptor: int, offset: int, end: int) -> None:
    """Check that only empty blocks follow: a zeroed header looks like the end, but members follow it.

    Raises:
        tarfile.ReadError: nothing follows, or something else.
    """
    if offset + BLOCK > end:
        raise tarfile.ReadError(f"no end-of-archive mark at byte {offset}")
    for place in range(offset, end, COPY_BLOCK):
        if any(os.pread(descriptor, min(COPY_BLOCK, end - place), place)):
            raise tarfile.ReadError(f"no end-of-archive mark at byte {offset}, or more behind it: is it several tars?")
