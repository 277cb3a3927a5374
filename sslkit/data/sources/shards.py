"""Existing WebDataset tars, local or remote, with ``cls`` and ``json`` members where there are labels.

``--root`` is a folder of tars, or a pattern of paths or URLs with braces: ``https://host/train-{000000..000146}.tar``.
Tars with ``val`` or ``test`` in their name are val. Remote ones are fetched once, through webdataset, since the
samples are packed in shuffled order; local ones are read where they lie.
"""

import glob
import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sslkit.data import images
from sslkit.data.prepare.archives import Tar, copy_stream, file_fingerprint
from sslkit.data.sources.base import FetchError, Sample, Source
from sslkit.errors import SslkitError, UsageError
from sslkit.files import atomic, read_json

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm")
VAL = re.compile(r"(^|[-_./])(val|valid|validation|test)([-_.\d]|$)")
Member = dict[str, int]  # extension -> position in its tar


class Shards(Source):
    """Samples of WebDataset tars."""

    def open(self, scratch: Path) -> None:
        """Fetch what is remote and list the samples."""
        self._tars: list[Tar] = []
        self._samples: dict[str, list[tuple[int, str, Member]]] = {}
        for url in self._urls:
            path = _fetched(url, scratch) if _is_remote(url) else Path(url)
            split = "val" if VAL.search(url.rsplit("/", 1)[-1]) else "train"
            tar = Tar(path)
            self._samples.setdefault(split, []).extend((len(self._tars), *sample) for sample in _samples(path, tar))
            self._tars.append(tar)
        self._labels = {s: np.array([self._label(m) for m in found], np.int64) for s, found in self._samples.items()}
        count = max((int(labels.max(initial=-1)) for labels in self._labels.values()), default=-1) + 1
        self.classes = self._names(count)

    @cached_property
    def _urls(self) -> list[str]:
        if self.root is None:
            raise UsageError(
                "the source 'shards' needs --root: a folder of WebDataset tars, or a pattern of paths or URLs"
            )
        if Path(self.root).is_dir():
            urls = [str(path) for path in sorted(Path(self.root).glob("*.tar"))]
        else:
            from webdataset.shardlists import expand_urls

            urls = [found for url in expand_urls(self.root) for found in ([url] if _is_remote(url) else _globbed(url))]
        if not urls:
            raise SslkitError(f"no tars in {self.root}: --root names a folder of tars, or a pattern of paths or URLs")
        return urls

    def _label(self, sample: tuple[int, str, Member]) -> int:
        tar, key, members = sample
        if "cls" not in members:
            return -1
        text = self._tars[tar].read(members["cls"])
        try:
            return int(text)
        except ValueError:
            raise SslkitError(f"{self._urls[tar]}: {key}.cls holds {text[:20]!r}, not a class number") from None

    def _names(self, count: int) -> list[str]:
        manifest = Path(self._urls[0]).parent / "manifest.json"
        if not _is_remote(self._urls[0]) and manifest.exists():
            names = read_json(manifest).get("classes", [])
            if len(names) >= count:
                return names
        return [str(i) for i in range(count)]

    def splits(self) -> dict[str, np.ndarray]:
        """Labels from the ``cls`` members."""
        return self._labels

    def read(self, split: str, index: int) -> Sample:
        """The image's own bytes; other binary members go along."""
        tar, key, members = self._samples[split][index]
        found = {name: self._tars[tar].read(position) for name, position in members.items() if name != "cls"}
        info = _json(found.pop("json", b"{}"))
        image = found.pop(next(name for name in IMAGES if name in found))
        return Sample(
            key=str(info.pop("key", key)),
            image=image,
            extension=images.extension(image),
            label=int(self._labels[split][index]),
            extras=found,
            info=info,
        )

    def name(self, split: str, index: int) -> str:
        """The key, behind its tar."""
        tar, key, _ = self._samples[split][index]
        return f"{self._urls[tar]}#{key}"

    def fingerprint(self) -> str:
        """Of the URLs and of the local files' content."""
        parts = [url if _is_remote(url) else file_fingerprint(Path(url)) for url in self._urls]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_remote(url: str) -> bool:
    return bool(re.match(r"[a-z0-9+]+:", url)) and not url.startswith("file:")


def _globbed(pattern: str) -> list[str]:
    pattern = pattern.removeprefix("file:")
    found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207  any depth, any root
    for path in found:
        if not Path(path).is_file():
            raise SslkitError(f"{path} does not exist: --root names a folder of tars, or a pattern of paths or URLs")
    return found


def _fetched(url: str, scratch: Path) -> Path:
    copy = scratch / f".{hashlib.sha256(url.encode()).hexdigest()[:16]}.tar"
    if not copy.exists():
        from webdataset.gopen import gopen

        try:
            with atomic(copy) as target, gopen(url) as stream:
                copy_stream(stream, target)
        except (OSError, ValueError) as error:
            raise FetchError(f"cannot fetch {url} ({error}); the same command tries again") from error
    return copy


def _samples(path: Path, tar: Tar) -> list[tuple[str, Member]]:
    """(key, members) of a tar; the key ends at the first dot of the file's name, as in webdataset."""
    found: dict[str, Member] = {}
    for position, name in enumerate(tar.names):
        folder, _, file = name.rpartition("/")
        stem, _, extension = file.partition(".")
        found.setdefault(f"{folder}/{stem}" if folder else stem, {})[extension.lower()] = position
    samples = [(key, members) for key, members in found.items() if not members.keys().isdisjoint(IMAGES)]
    if not samples:
        raise SslkitError(f"{path} holds no samples with an image member ({', '.join(IMAGES)})")
    return samples


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {"json": value}
