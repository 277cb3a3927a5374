"""The files of a folder, a tar, a compressed tar or a zip, all read at random access."""

import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import tarfile
import zipfile
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

from sslkit.errors import SslkitError
from sslkit.files import atomic

TARS = (".tar",)
COMPRESSED_TARS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open,
}  # fmt: skip
ARCHIVES = (*TARS, *COMPRESSED_TARS, ".zip")
BLOCK = 512  # a tar's unit


class Window(NamedTuple):
    """Where the bytes of a file lie uncompressed: a part of a file on the disk."""

    path: Path
    offset: int
    size: int


class Files(ABC):
    """Regular files by position, sorted by name; hidden ones are left out.

    Attributes:
        names: paths with ``/`` between their parts, relative to the root.
        sizes: bytes of each.
        places: what tells whether two names are links to one file.
        hidden: how many files were left out because they, or a folder of theirs, are hidden.
    """

    names: list[str]
    sizes: Sequence[int]
    places: Sequence[Any]
    hidden: int

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Content of one file.

        Raises:
            OSError: it cannot be read.
        """

    def window(self, index: int) -> Window | None:
        """Where a file's bytes lie, None if they are compressed."""
        return None

    def copy(self, index: int, target: IO[bytes]) -> None:
        """Write a file's content, which may be larger than the memory."""
        target.write(self.read(index))

    def keep(self, entries: list[tuple[str, int, Any]]) -> Sequence[Any]:
        """Set the attributes from (name, size, where) entries; returns every ``where`` in the names' order."""
        seen = [e for e in entries if not any(p.startswith((".", "__MACOSX")) for p in e[0].split("/"))]
        seen.sort(key=itemgetter(0))
        self.names, self.sizes = [e[0] for e in seen], array("q", (e[1] for e in seen))
        numbers = all(isinstance(e[2], int) for e in seen)
        self.places = array("q", (e[2] for e in seen)) if numbers else [e[2] for e in seen]
        self.hidden = len(entries) - len(seen)
        return self.places


class Folder(Files):
    """Files below a folder; links are followed, as class folders are often links."""

    def __init__(self, root: Path):
        self.root = root
        self.keep(list(_walk(str(root), "", ())))

    def read(self, index: int) -> bytes:
        """Content of one file."""
        return (self.root / self.names[index]).read_bytes()

    def window(self, index: int) -> Window:
        """The file itself."""
        return Window(self.root / self.names[index], 0, self.sizes[index])


def _walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int, Any]]:
    """(name, size, identity) of every file; a link to a folder above it, which would be a circle, is not followed."""
    status = os.stat(folder)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _walk(entry.path, f"{name}/", (*above, here))
                continue
            try:
                status = entry.stat()
                yield name, status.st_size, hash((status.st_dev, status.st_ino))
            except OSError:
                # A dangling link is listed, so that it is reported as unreadable instead of silently missing.
                yield name, 0, hash(name)


class Tar(Files):
    """Members of an uncompressed tar, read where they lie.

    Args:
        path: the tar, or the file that holds it.
        part: where in that file it lies; None for all of it.
    """

    def __init__(self, path: Path, part: Window | None = None):
        self.path = path
        self._descriptor: int | None = None
        try:
            self._offsets: Sequence[int] = self.keep(_tar_members(path, part))
        except (tarfile.TarError, EOFError) as error:
            raise SslkitError(f"{path} is truncated or not a tar ({error}); download or create it again") from error

    def read(self, index: int) -> bytes:
        """Content of one member."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        data = os.pread(self._descriptor, self.sizes[index], self._offsets[index])
        if len(data) != self.sizes[index]:
            raise OSError(f"{self.path} ends inside {self.names[index]}")
        return data

    def window(self, index: int) -> Window:
        """Where a member's content lies in the tar."""
        return Window(self.path, self._offsets[index], self.sizes[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": None}

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)  # type: ignore[arg-type]


def _tar_members(path: Path, part: Window | None = None) -> list[tuple[str, int, Any]]:
    """(name, size, offset) of the regular files; a hard link has those of its target."""
    with path.open("rb") as handle:
        start, size = (part.offset, part.size) if part else (0, path.stat().st_size)
        if (plain := _plain_members(handle.fileno(), start, start + size)) is not None:
            return plain
        handle.seek(start)  # where tarfile begins to read
        with closing(tarfile.open(fileobj=handle, mode="r:")) as tar:
            members = tar.getmembers()
            end = tar.offset
        if part and end > part.offset + part.size:
            raise tarfile.ReadError(f"the tar at byte {part.offset} is cut off")
        handle.seek(end)
        # tarfile stops silently at a damaged header or a cut between members; a complete tar ends in empty blocks.
        if handle.read(BLOCK) != bytes(BLOCK):
            raise tarfile.ReadError(f"no end-of-archive mark at byte {end}")
    files = {clean(m.name): (m.size, m.offset_data) for m in members if m.isreg()}
    for link in (m for m in members if m.islnk() and clean(m.linkname) in files):
        files[clean(link.name)] = files[clean(link.linkname)]
    return [(name, size, offset) for name, (size, offset) in files.items()]


def _plain_members(descriptor: int, offset: int, end: int) -> list[tuple[str, int, Any]] | None:
    """As ``_tar_members``, four times faster; None for a tar with anything but short names of files and folders."""
    files: dict[str, tuple[int, int]] = {}
    while any(header := os.pread(descriptor, BLOCK, offset)):
        kind, name = header[156:157], header[:100].rstrip(b"\0").decode(errors="surrogateescape")
        octal = (header[124:136].rstrip(b" \0"), header[148:156].rstrip(b" \0"))
        plain = kind in (b"0", b"\0", b"5") and header[257:262] == b"ustar" and header[345:346] == b"\0"
        plain = plain and all(re.fullmatch(rb"[0-7]+", number) for number in octal) and "\0" not in name
        if not plain or sum(header) - sum(header[148:156]) + 8 * ord(" ") != int(octal[1], 8):
            return None
        size = int(octal[0], 8)
        if kind != b"5" and name[-1:] != "/":
            files[clean(name)] = (size, offset + BLOCK)
        offset += BLOCK + -(-size // BLOCK) * BLOCK
    return [(n, *place) for n, place in files.items()] if len(header) == BLOCK and offset + BLOCK <= end else None


def clean(name: str) -> str:
    """A member's name without a leading ``./``."""
    return name.removeprefix("./")


class Zip(Files):
    """Members of a zip."""

    def __init__(self, path: Path):
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        try:
            with zipfile.ZipFile(path) as archive:
                members = [(clean(m.filename), m.file_size, m.filename) for m in archive.infolist() if not m.is_dir()]
        except zipfile.BadZipFile as error:
            raise SslkitError(f"{path} is truncated or not a zip ({error}); download or create it again") from error
        self._members: Sequence[str] = self.keep(members)

    def read(self, index: int) -> bytes:
        """Content of one member."""
        if self._zip is None:
            self._zip = zipfile.ZipFile(self.path)
        try:
            return self._zip.read(self._members[index])
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
            raise OSError(str(error)) from error

    def copy(self, index: int, target: IO[bytes]) -> None:
        """Write a member's content, which may be larger than the memory."""
        with zipfile.ZipFile(self.path) as archive, archive.open(self._members[index]) as source:
            copy_stream(source, target)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}

    def __del__(self) -> None:
        if getattr(self, "_zip", None) is not None:
            self._zip.close()  # type: ignore[union-attr]


def open_files(root: Path, scratch: Path) -> Files:
    """The files of a folder or an archive.

    Args:
        root: a folder, ``.tar``, ``.tar.gz`` (or ``.tgz``, ``.tar.bz2``, ``.tar.xz``) or ``.zip``.
        scratch: folder for the uncompressed copy of a compressed tar, which has no random access of its own.

    Raises:
        SslkitError: it does not exist, or the archive is damaged.
    """
    if root.is_dir():
        return Folder(root)
    if not root.exists():
        raise SslkitError(f"{root} does not exist: --root names a folder of images, or a .tar, .tar.gz or .zip of one")
    for suffix, opener in COMPRESSED_TARS.items():
        if root.name.lower().endswith(suffix):
            return Tar(_uncompressed(root, opener, scratch))
    if root.name.lower().endswith(TARS):
        return Tar(root)
    if root.name.lower().endswith(".zip"):
        return Zip(root)
    raise SslkitError(f"{root} is neither a folder nor one of {', '.join(ARCHIVES)}")


def _uncompressed(path: Path, opener: Callable[..., Any], scratch: Path) -> Path:
    copy = scratch / f".{file_fingerprint(path)[:16]}.tar"
    if copy.exists():
        return copy
    try:
        with atomic(copy) as target, opener(path, "rb") as source:
            copy_stream(source, target)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, ValueError) as error:
        raise SslkitError(f"{path} is truncated or damaged ({error}); download it again") from error
    return copy


def copy_stream(source: Any, target: IO[bytes]) -> None:
    """Copy to the end in blocks of a megabyte."""
    shutil.copyfileobj(source, target, 1 << 20)


def file_fingerprint(path: Path, blocks: int = 64) -> str:
    """SHA-256 of a file's size and of up to 64 blocks of 64 KiB spread over it: fast, whatever the size."""
    size, length = path.stat().st_size, 1 << 16
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        for i in range(blocks):
            offset = i * length if size <= blocks * length else i * (size - length) // (blocks - 1)
            handle.seek(offset)
            digest.update(handle.read(length))
    return digest.hexdigest()


def files_fingerprint(root: Path) -> str:
    """Fingerprint of a folder (names and sizes of its files) or of an archive (``file_fingerprint``).

    Raises:
        SslkitError: it does not exist.
    """
    if not root.is_dir():
        if not root.exists():
            raise SslkitError(f"{root} does not exist: --root names a folder or an archive")
        return file_fingerprint(root)
    files = Folder(root)
    digest = hashlib.sha256()
    for name, size in zip(files.names, files.sizes, strict=True):
        digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
