"""The index of a shard, next to it on disk: where each member of each sample lies, and which tar it belongs to."""

import hashlib
import json
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from sslkit.artifacts import DamagedFile, check_digest, is_there, mismatch
from sslkit.data.pixels.rules import RGB
from sslkit.errors import SslkitError
from sslkit.files import atomic

BLOCK = 512  # a tar's unit: one block of header, then the content padded to whole blocks
NAME_BYTES, LARGEST_OCTAL = 100, 8**11  # of a header's name, and what its size field cannot hold
ARRAYS = ("keys", "labels", "members", "offsets", "sizes", "image", "crcs")
IMAGE_EXTENSIONS = ("jpg", "png", "webp", "npy")
MANIFEST = {
    "classes": [str],
    "splits": {str: {"samples?": int, "shards": [{"file": str, "bytes?": int, "sha256?": str}]}},
    "channels?": int,
}
SHAPE = {"bytes": int, "sha256": str, "skipped": [dict]}


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
        crcs: CRC-32 of the content, int64 (N, M), -1 where it is unknown; earlier versions wrote none.
        facts: ``bytes`` and ``sha256`` of the tar, and ``skipped``: which images were left out, and why.
    """

    keys: np.ndarray
    labels: np.ndarray
    members: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    image: np.ndarray
    crcs: np.ndarray
    facts: dict[str, Any]


class HashedTar:
    """A tar of files that is hashed while it is written; its bytes depend only on its members."""

    def __init__(self, handle: IO[bytes]):
        self.handle, self.digest, self.bytes = handle, hashlib.sha256(), 0

    def add(self, name: str, content: bytes) -> int:
        """Append a member; where its content begins."""
        header = _header(name, len(content))
        start = self.bytes + len(header)
        self._write(b"".join((header, content, bytes(-len(content) % BLOCK))))
        return start

    def end(self) -> None:
        """Two empty blocks, and what fills a record."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.bytes % tarfile.RECORDSIZE))

    def _write(self, data: bytes) -> None:
        self.digest.update(data)
        self.bytes += len(data)
        self.handle.write(data)


def _tarfile_header(name: str, size: int) -> bytes:
    """What comes before a member's content: a block, and more where a PAX header holds a long or non-ASCII name."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, 0o644, "root", "root"
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


USUAL_HEADER = _tarfile_header("", 0)


def _header(name: str, size: int) -> bytes:
    """The same for usual names in a tenth of the time: of small images, writing the tar took as long as decoding."""
    if not name.isascii() or len(name) > NAME_BYTES or size >= LARGEST_OCTAL:
        return _tarfile_header(name, size)
    parts = (
        name.encode().ljust(NAME_BYTES, b"\0"),
        USUAL_HEADER[NAME_BYTES:124],
        b"%011o" % size,
        USUAL_HEADER[135:148],
    )
    before, after = b"".join(parts), USUAL_HEADER[156:]
    return before + b"%06o\0 " % (sum(before) + sum(after) + 8 * ord(" ")) + after  # spaces: the checksum's own place


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
    """The index of a shard; the checksums that are in an ``.npz`` are compared.

    Raises:
        SslkitError: the shard or its index is missing, the index is damaged, or it was made for another shard.
    """
    advice = "redo it with `sslkit prepare --force`"
    is_there(index_path(shard))
    is_there(shard)
    try:
        with index_path(shard).open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in ARRAYS if name in arrays or name != "crcs"}
            columns.setdefault("crcs", np.full_like(columns["offsets"], -1))
            index = Index(**columns, facts=json.loads(arrays["facts"].tobytes()))
        size = shard.stat().st_size
        wrong = mismatch(index.facts, SHAPE) or _inconsistent(index)
    except FileNotFoundError as error:
        raise SslkitError(f"{error.filename} is missing: {advice}") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, TypeError, NotImplementedError) as error:
        raise DamagedFile(index_path(shard), str(error) or type(error).__name__) from error
    if not wrong and size != index.facts["bytes"]:
        was = index.facts["bytes"]
        raise SslkitError(f"the index of {shard} is stale (made for {was} bytes, the shard has {size}): {advice}")
    if wrong:
        raise DamagedFile(index_path(shard), wrong)
    return index


def _inconsistent(index: Index) -> str:
    """How the columns of an index differ from each other, in words; empty if they do not."""
    samples, members = len(index.keys), len(index.members)
    shapes = {"keys": (samples,), "labels": (samples,), "members": (members,), "image": (samples,)}
    shapes |= dict.fromkeys(("offsets", "sizes", "crcs"), (samples, members))
    kinds = {"keys": "S", "members": "U"}
    for name, shape in shapes.items():
        column = getattr(index, name)
        if column.shape != shape or column.dtype.kind != kinds.get(name, "i"):
            return f"its column {name} is {column.dtype} {column.shape}"
    if samples and not (index.image.min() >= 0 and index.image.max() < members):
        return "its column image names no member"
    return ""


def image_places(index: Index) -> np.ndarray:
    """(offset, size, number in IMAGE_EXTENSIONS, CRC-32) of every image: int64 (N, 4)."""
    rows = np.arange(len(index.keys))
    kinds = np.array([IMAGE_EXTENSIONS.index(m) if m in IMAGE_EXTENSIONS else -1 for m in index.members], np.int64)
    if not len(rows):
        return np.empty((0, 4), np.int64)
    places = [each[rows, index.image] for each in (index.offsets, index.sizes, index.crcs)]
    return np.stack([*places[:2], kinds[index.image], places[2]], axis=1)


def is_complete(shard: Path) -> bool:
    """Whether a shard and its index both exist, belong together, and hold the bytes that were written."""
    try:
        index = read_index(shard)
        check_digest(shard, index.facts["sha256"])
    except (SslkitError, OSError):
        return False
    return True


def channels_in(manifest: Mapping[str, Any]) -> int:
    """C of the images of prepared data, by its manifest, which names it where it is not 3."""
    return manifest.get("channels", RGB)
