"""The index of a shard, next to it on disk: where each member of each sample lies, and which tar it belongs to."""

import hashlib
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from sslkit.errors import SslkitError
from sslkit.files import atomic

BLOCK = 512  # a tar's unit: one block of header, then the content padded to whole blocks
NAME_BYTES, LARGEST_OCTAL = 100, 8**11  # of a header's name, and what its size field cannot hold
ARRAYS = ("keys", "labels", "members", "offsets", "sizes", "image")


@dataclass(frozen=True)
class Index:
    """Where the samples of one shard lie.

    Attributes:
        keys: bytes strings (N,).
        labels: int64 (N,).
        members: names of the members that occur, (M,).
        offsets: of the content in the tar, int64 (N, M), -1 where a sample has no such member.
        sizes: bytes, int64 (N, M).
        image: column of each sample's image, int64 (N,).
        facts: ``bytes`` and ``sha256`` of the tar, and ``skipped``: which images were left out, and why.
    """

    keys: np.ndarray
    labels: np.ndarray
    members: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    image: np.ndarray
    facts: dict[str, Any]


class HashedFile:
    """A file that is hashed while it is written."""

    def __init__(self, handle: IO[bytes]):
        self.handle, self.digest, self.bytes = handle, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Append, as a file does."""
        self.digest.update(data)
        self.bytes += len(data)
        return self.handle.write(data)


def header_bytes(name: str, size: int) -> int:
    """Bytes in front of a member's content: a block, and more where a PAX header holds a long or non-ASCII name."""
    if name.isascii() and len(name) <= NAME_BYTES and size < LARGEST_OCTAL:
        return BLOCK
    info = tarfile.TarInfo(name)
    info.size = size
    return len(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def header_name(name: bytes) -> bytes:
    """How the block in front of a member's content begins, given its name with ``?`` for other than ASCII."""
    return (name + b"\0")[:NAME_BYTES]


def index_path(shard: Path) -> Path:
    """The path of a shard's index, next to the shard."""
    return shard.with_suffix(".idx.npz")


def write_index(path: Path, index: Index) -> None:
    """Write an index, whole or not at all; equal indexes give equal bytes."""
    arrays: dict[str, Any] = {name: getattr(index, name) for name in ARRAYS}
    facts = np.frombuffer(json.dumps(index.facts, sort_keys=True).encode(), np.uint8)
    with atomic(path) as handle:
        np.savez_compressed(handle, facts=facts, **arrays)


def read_index(shard: Path) -> Index:
    """The index of a shard.

    Raises:
        SslkitError: the shard or its index is missing, the index is damaged, or it was made for another shard.
    """
    advice = "redo it with `sslkit prepare --force`"
    try:
        with index_path(shard).open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in ARRAYS}
            index = Index(**columns, facts=json.loads(arrays["facts"].tobytes()))
        size = shard.stat().st_size
    except FileNotFoundError as error:
        raise SslkitError(f"{error.filename} is missing: {advice}") from error
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise SslkitError(f"{index_path(shard)} is damaged ({error}): {advice}") from error
    if size != index.facts["bytes"]:
        was = index.facts["bytes"]
        raise SslkitError(f"the index of {shard} is stale (made for {was} bytes, the shard has {size}): {advice}")
    return index


def is_complete(shard: Path) -> bool:
    """Whether a shard and its index both exist and belong together."""
    try:
        read_index(shard)
    except SslkitError:
        return False
    return True
