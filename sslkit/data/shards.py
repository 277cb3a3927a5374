"""Prepared data: plain WebDataset tars, each with an index that gives random access to its samples.

``train-000000.tar`` holds, per sample, ``<key>.jpg`` (or ``png``, ``webp``, or ``npy`` for channels that those cannot
hold), ``<key>.cls`` unless unlabelled, ``<key>.json`` and whatever the source adds, such as ``<key>.mask.png``.
``train-000000.idx.npz`` says where each member lies. The bytes of both depend only on the samples.
"""

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from sslkit.artifacts import DamagedFile, read_json
from sslkit.data import images
from sslkit.data.pixels.rules import RGB, PixelRules
from sslkit.data.shard_index import (
    BLOCK,
    IMAGE_EXTENSIONS,
    MANIFEST,
    HashedTar,
    Index,
    channels_in,
    header_name,
    image_places,
    index_path,
    read_index,
    write_index,
)
from sslkit.errors import SslkitError
from sslkit.files import atomic, printable

OPEN_FILES = 128  # shards held open by a process at a time
T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """One sample as it is stored.

    Attributes:
        key: the WebDataset key, without dots, unique in its split.
        label: -1 for none; no ``cls`` member is written then.
        members: content by extension; exactly one of them is ``jpg``, ``png``, ``webp`` or ``npy``.
    """

    key: str
    label: int
    members: Mapping[str, bytes]


def write_shard(
    path: Path, records: Iterable[Record], skipped: list[dict[str, str]], seen: Mapping[str, Any] | None = None
) -> Index:
    """Write a tar and then its index, each whole or not at all; with the index in place the shard is complete.

    Args:
        path: the tar.
        records: its samples, taken one by one: a single one is in memory at a time.
        skipped: what ``records`` left out, read once it is exhausted; goes into the index.
        seen: other facts about the records, read likewise.
    """
    keys, labels, rows = [], [], []  # a row has a member's offset, size and CRC-32
    with atomic(path) as handle:
        tar = HashedTar(handle)
        for record in records:
            members = {**record.members, **({"cls": b"%d" % record.label} if record.label >= 0 else {})}
            keys.append(record.key.encode())
            labels.append(record.label)
            row = {}
            for name in sorted(members):
                content = members[name]
                row[name] = (tar.add(f"{record.key}.{name}", content), len(content), zlib.crc32(content))
            rows.append(row)
        tar.end()
    facts = {"bytes": tar.bytes, "sha256": tar.digest.hexdigest(), "skipped": skipped, **(seen or {})}
    index = _index(keys, labels, rows, facts)
    write_index(index_path(path), index)
    return index


def _index(keys: list[bytes], labels: list[int], rows: list[dict[str, tuple[int, int, int]]], facts: dict) -> Index:
    members = sorted({name for row in rows for name in row})
    places = np.array([[row.get(m, (-1, 0, -1)) for m in members] for row in rows], np.int64).reshape(
        len(rows), len(members), 3
    )
    image = [members.index(next(e for e in IMAGE_EXTENSIONS if e in row)) for row in rows]
    return Index(
        np.array(keys, "S"),
        np.array(labels, np.int64),
        np.array(members, "U"),
        places[..., 0],
        places[..., 1],
        np.array(image, np.int64),
        places[..., 2],
        facts,
    )


class Split:
    """The samples of one prepared split, by number. Cheap to send to worker processes: files open on first use.

    Threads may share it.

    Attributes:
        name: ``train`` or ``val``.
        classes: class names.
        labels: int64 (N,), -1 for none.
        channels: C of its images.
    """

    def __init__(self, folder: Path, name: str, classes: list[str], shards: list[str], channels: int = RGB):
        self.channels = channels
        self._rules = PixelRules(channels, max_pixels=None)  # sizes were checked when the images were packed
        self.name, self.classes = name, [printable(each) for each in classes]
        self._shards = [folder / shard for shard in shards]
        # Of each index only what every sample needs: the rest is several times as large.
        indexes = ((index.keys, index.labels, image_places(index)) for index in map(read_index, self._shards))
        keys, labels, places = map(list, zip(*indexes, strict=True))
        self._starts = np.cumsum([0, *map(len, keys)])
        self._keys, self.labels, self._images = np.concatenate(keys), np.concatenate(labels), np.concatenate(places)
        self._nothing_open()

    def _nothing_open(self) -> None:
        self._handles = _Recent(lambda shard: _Handle(self._shards[shard]))
        self._members = _Recent(lambda shard: read_index(self._shards[shard]))

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, i: int) -> str:
        """The WebDataset key of sample ``i``."""
        return self._keys[i].decode()

    def own_name(self, i: int) -> str:
        """The name that sample ``i`` has in its source, such as ``cat/0001.jpg``; undecodable bytes are surrogates."""
        info = self.member(i, "json")
        return str(json.loads(info).get("key", self.key(i))) if info else self.key(i)

    def source_name(self, i: int) -> str:
        """``own_name`` as it can be shown."""
        return printable(self.own_name(i))

    def image_bytes(self, i: int) -> bytes:
        """The encoded image of sample ``i``.

        Raises:
            SslkitError: the shard changed since it was indexed.
            IndexError: ``i`` is not in 0 ... N - 1.
        """
        offset, size, kind, crc = self._images[self._check(i)].tolist()
        return self._read(i, IMAGE_EXTENSIONS[kind], offset, size, crc)

    def image(self, i: int) -> torch.Tensor:
        """The image of sample ``i``: uint8 (C, H, W)."""
        data = self.image_bytes(i)
        return self._decoded(i, "image", data, self._rules, verified=int(self._images[i, -1]) != -1)

    def object_mask(self, i: int) -> torch.Tensor | None:
        """Where the object of sample ``i`` is: uint8 (H, W), 255 on it and 0 elsewhere; None without ``mask.png``.

        On it is what is brighter than half of the mask's brightest pixel: masks of 0 and 255 and of 0 and 1 both occur.
        """
        png = self.member(i, "mask.png")
        if png is None:
            return None
        brightness = self._decoded(i, "mask.png", png, PixelRules(max_pixels=None)).amax(0)
        return (brightness > brightness.max() // 2).to(torch.uint8) * 255

    def member(self, i: int, name: str) -> bytes | None:
        """Another member of sample ``i``, such as ``"json"`` or ``"mask.png"``; None when it has none."""
        shard = self._shard(self._check(i))
        index, row = self._members(shard), i - int(self._starts[shard])
        columns = np.flatnonzero(index.members == name)
        if not len(columns) or index.offsets[row, columns[0]] < 0:
            return None
        return self._read(i, name, *(int(each[row, columns[0]]) for each in (index.offsets, index.sizes, index.crcs)))

    def having(self, name: str) -> np.ndarray:
        """Numbers of the samples that have a member, ascending: (M,) int64. Reads every index, and no shard."""
        indexes = [read_index(shard) for shard in self._shards]
        return np.flatnonzero(np.concatenate([(i.offsets[:, i.members == name] >= 0).any(1) for i in indexes]))

    def _decoded(self, i: int, what: str, data: bytes, rules: PixelRules, verified: bool = False) -> torch.Tensor:
        try:
            return images.decode(data, rules, verified)
        except SslkitError as error:
            shard, advice = self._shards[self._shard(i)], "redo it with `sslkit prepare --force`"
            raise SslkitError(f"the {what} of {self.key(i)} in {shard} cannot be read ({error}): {advice}") from error

    def _check(self, i: int) -> int:
        if not 0 <= i < len(self.labels):
            raise IndexError(f"sample {i} of {len(self.labels)}")
        return i

    def _shard(self, i: int) -> int:
        return int(np.searchsorted(self._starts, i, side="right")) - 1

    def _read(self, i: int, extension: str, offset: int, size: int, crc: int) -> bytes:
        shard = self._shard(i)
        handle = self._handles(shard)  # a variable of its own keeps it open while it is read
        # The header in front comes in the same read; its name tells a shard that was replaced by one of equal size.
        block = os.pread(handle.descriptor, BLOCK + size, offset - BLOCK)
        expected = header_name(self._keys[i] + b"." + extension.encode("ascii", "replace"))
        if len(block) != BLOCK + size or not block.startswith(expected):
            raise SslkitError(
                f"the index of {self._shards[shard]} is stale (no {expected.rstrip(bytes(1)).decode()} where it says): "
                "redo it with `sslkit prepare --force`"
            )
        content = block[BLOCK:]
        if crc not in (-1, zlib.crc32(content)):  # some microseconds, where decoding takes hundreds
            raise DamagedFile(self._shards[shard], f"the checksum of {expected.rstrip(bytes(1)).decode()} is wrong")
        return content

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_handles", "_members")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._nothing_open()


class _Recent(Generic[T]):
    """Keeps what was made for the last ``OPEN_FILES`` shards; several threads may ask at a time."""

    def __init__(self, make: Callable[[int], T]):
        self._make, self._lock = make, threading.Lock()
        self._kept: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, shard: int) -> T:
        found = self._kept.get(shard)
        if found is not None:
            return found
        with self._lock:
            if shard not in self._kept:
                made = self._make(shard)
                if len(self._kept) >= OPEN_FILES:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[shard] = made
            return self._kept[shard]


class _Handle:
    """A file descriptor that closes with the last reference to it."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def open_split(data_folder: Path, split: str) -> Split:
    """A prepared split.

    Args:
        data_folder: ``data/`` of a run.
        split: ``"train"`` or ``"val"``.

    Raises:
        SslkitError: no data is prepared there, the split does not exist, or an index is stale.
    """
    try:
        manifest = read_json(data_folder / "manifest.json", MANIFEST)
    except FileNotFoundError as error:
        raise SslkitError(
            f"{data_folder} holds no prepared data: run `sslkit prepare {data_folder.parent}` first"
        ) from error
    if split not in manifest["splits"]:
        there = ", ".join(manifest["splits"])
        raise SslkitError(f"{data_folder} has no split '{split}' (it has: {there}): prepare it with --val-fraction 0.1")
    shards = [shard["file"] for shard in manifest["splits"][split]["shards"]]
    return Split(data_folder, split, manifest["classes"], shards, channels_in(manifest))


def shard_paths(folder: Path, split: str, count: int) -> Iterator[Path]:
    """``<split>-000000.tar`` and so on."""
    return (folder / f"{split}-{number:06d}.tar" for number in range(count))
