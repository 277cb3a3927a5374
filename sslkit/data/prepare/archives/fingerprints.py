"""Strings that change when a folder or an archive changes."""

import hashlib
from pathlib import Path

from sslkit.data.prepare.archives.files import check_readable
from sslkit.data.prepare.archives.folder import Folder
from sslkit.errors import SslkitError


def file_fingerprint(path: Path, blocks: int = 64) -> str:
    """SHA-256 of a file's size and of up to 64 blocks of 64 KiB spread over it: fast, whatever the size."""
    check_readable(path)
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
