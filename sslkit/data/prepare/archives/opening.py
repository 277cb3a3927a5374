"""The files of a place, whatever it is."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from sslkit.data.prepare.archives.files import COPY_BLOCK, Files
from sslkit.data.prepare.archives.fingerprints import file_fingerprint
from sslkit.data.prepare.archives.folder import Folder
from sslkit.data.prepare.archives.tar import Tar
from sslkit.data.prepare.archives.zip import Zip
from sslkit.errors import SslkitError
from sslkit.files import atomic, kind_of_file

TARS = (".tar",)
COMPRESSED_TARS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open,
}  # fmt: skip
ARCHIVES = (*TARS, *COMPRESSED_TARS, ".zip")
# Even tiny files, whose tar headers compress well, stay below: what unpacks to more was made to fill the disk.
MOST_UNPACKED, UNPACKED_AT_LEAST = 300, 1 << 30
UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)  # what the decompressors raise


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
    if not root.is_file():
        if root.exists():
            raise SslkitError(f"{root} is {kind_of_file(root.stat().st_mode)}, neither a folder nor an archive")
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
    with atomic(copy) as target, opener(path, "rb") as source:
        _unpack(path, source, target)
    return copy


def _unpack(path: Path, source: Any, target: IO[bytes]) -> None:
    """Copy to the end; what a damaged stream raises is told from what a full disk does.

    Raises:
        SslkitError: the stream is damaged, or unpacks to more than any images do.
    """
    left = UNPACKED_AT_LEAST + MOST_UNPACKED * path.stat().st_size
    while True:
        try:
            block = source.read(COPY_BLOCK)
        except UNREADABLE as error:
            raise SslkitError(f"{path} is truncated or damaged ({error}); download it again") from error
        if not block:
            return
        left -= len(block)
        if left < 0:
            raise SslkitError(f"{path} unpacks to over {MOST_UNPACKED} times its size: no archive of images does")
        target.write(block)
