"""Existing WebDataset tars, local or remote, with ``cls`` and ``json`` members where there are labels.

``--root`` is a folder of tars, or a pattern of paths or URLs with braces: ``https://host/train-{000000..000146}.tar``.
Tars with ``val`` or ``test`` in their name or folder are val. Remote ones are fetched once, through webdataset, since
the samples are packed in shuffled order; local ones are read where they lie.
"""

import glob
import hashlib
import os
import re
import shutil
import tarfile
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np

from sslkit.artifacts import DamagedFile, read_json
from sslkit.data import images
from sslkit.data.prepare import formats, samples
from sslkit.data.prepare.archives.files import COPY_BLOCK, Files
from sslkit.data.prepare.archives.fingerprints import file_fingerprint
from sslkit.data.prepare.archives.tar import HEADER_ERRORS, Tar
from sslkit.data.prepare.samples import Member
from sslkit.data.prepare.split_names import split_within
from sslkit.data.sources.base import FetchError, Sample, Source
from sslkit.errors import SslkitError, UsageError, number_of
from sslkit.files import atomic


class Shards(Source):
    """Samples of WebDataset tars."""

    specific = 20

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """By the members of its first tar, or of the tar that the root is."""
        if root.name.lower().endswith(".tar"):
            return "a WebDataset shard" if samples.looks_like_samples(files.names) else None
        tars = [i for i, name in enumerate(files.names) if name.lower().endswith(".tar")]
        if not tars or files.window(tars[0]) is None:
            return None
        names = _first_names(root / files.names[tars[0]])
        return f"{len(tars)} WebDataset shards" if samples.looks_like_samples(names) else None

    def open(self, scratch: Path) -> None:
        """Fetch what is remote and list the samples."""
        self._tars: list[Tar] = []
        self._samples: dict[str, list[tuple[int, str, Member]]] = {}
        self._test_is_val = False
        splits = self._split_of_each()
        dotted = 0
        for url, split in splits.items():
            path = _fetched(url, scratch) if _is_remote(url) else Path(url)
            tar = Tar(path)
            self.remarks += tar.remarks
            found, dots = samples.group(tar.names)
            dotted += dots
            found = self._with_images(path, tar, found)
            self._samples.setdefault(split, []).extend((len(self._tars), *sample) for sample in found)
            self._tars.append(tar)
        self._used = list(splits)
        if dotted:
            self.remarks.append(f"{dotted} keys hold a dot: a key ends where the longest known file ending begins")
        if "train" not in self._samples:
            raise SslkitError(f"no train shards in {self.root}: only {', '.join(map(str, splits))}")
        self._label()
        if self._test_is_val and not self.keeps_test():
            del self._labels["val"]

    def _split_of_each(self) -> dict[str, str]:
        """The tars that are used and their splits; test is val where there is no val, else it is not used."""
        above = str(Path(self.root or "").expanduser())
        named = {url: _split_of(url.removeprefix(above)) for url in self._urls}
        if "test" in named.values():
            used = "val" not in named.values()
            count = sum(split == "test" for split in named.values())
            self._test_is_val = used
            if not used:
                self.remarks.append(f"test ({count} shards) is not used, as there is a val")
                self.left_out[".tar"] += count
            named = {u: "val" if s == "test" else s for u, s in named.items() if used or s != "test"}
        return named

    def _with_images(self, path: Path, tar: Tar, found: dict[str, Member]) -> list[tuple[str, Member]]:
        """The samples that have an image; the others are counted by their members."""
        kept = [(key, members) for key, members in found.items() if samples.image_of(members)]
        lost = [members for members in found.values() if not samples.image_of(members)]
        if not kept:
            kinds = formats.kinds(tar.names)
            what = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
            raise SslkitError(f"{path} holds no samples with an image: it holds {what or 'nothing'}")
        unkept = Counter(e for _, m in kept for e in m if not samples.can_be_kept(e) and e != samples.image_of(m))
        if unkept:
            self.left_out += Counter({f".{e}" if e else "without a suffix": count for e, count in unkept.items()})
        if lost:
            self.remarks.append(f"{number_of(len(lost), f'sample of {path.name}', 'has')} no image that can be read")
            self.left_out += Counter(
                f".{extension}" if extension else "without a suffix" for m in lost for extension in m
            )
        return kept

    def _label(self) -> None:
        """Set the labels and class names: from ``cls`` members, or from json where no sample has one."""
        every = [sample for split in self._samples.values() for sample in split]
        names: list[str] | None = None
        if not self.label_key and any("cls" in members for _, _, members in every):
            values = [samples.cls_value(self._member(s, "cls")) if "cls" in s[2] else None for s in every]
        else:
            found = [samples.parsed(self._member(s, "json")) if "json" in s[2] else {} for s in every]
            facts = [one or {} for one in found]
            if None in found:
                self.remarks.append(f"{found.count(None)} json members are damaged; their images have no label")
            values, names, key = samples.json_labels(facts, self.label_key)
            if self.label_key and not any(value is not None for value in values):
                known = ", ".join(sorted({k for one in facts[:100] for k in one})[:8]) or "no keys"
                raise UsageError(f"--label-key {self.label_key}: no json member has it; they hold {known}")
            if key:
                self.remarks.append(f"labels are '{key}' of the json members")
        labels, words, remarks = samples.numbered(values, lambda i: self._place(every[i]))
        self.remarks += remarks
        count = int(labels.max(initial=-1)) + 1
        self.classes = words or (names if names and len(names) >= count else self._names(count))
        ends = np.cumsum([len(split) for split in self._samples.values()])
        self._labels = dict(zip(self._samples, np.split(labels, ends[:-1]), strict=True))

    def _member(self, sample: tuple[int, str, Member], name: str) -> bytes:
        return self._tars[sample[0]].read(sample[2][name])

    @cached_property
    def _urls(self) -> list[str]:
        if self.root is None:
            raise UsageError(
                "the source 'shards' needs --root: a folder of WebDataset tars, or a pattern of paths or URLs"
            )
        if Path(self.root).is_dir():
            urls = [str(path) for path in sorted(Path(self.root).glob("*.tar"))]
            urls = urls or [str(path) for path in sorted(Path(self.root).rglob("*.tar"))]
        else:
            from webdataset.shardlists import expand_urls

            urls = [found for url in expand_urls(self.root) for found in ([url] if _is_remote(url) else _globbed(url))]
        if not urls:
            raise SslkitError(f"no tars in {self.root}: --root names a folder of tars, or a pattern of paths or URLs")
        return urls

    def _names(self, count: int) -> list[str]:
        manifest = Path(self._urls[0]).parent / "manifest.json"
        if not _is_remote(self._urls[0]) and manifest.is_file():
            names = _class_names(manifest)
            if len(names) >= count:
                return names
            holds = f"{len(names)} class names" if names else "no list of class names"
            self.remarks.append(f"{manifest} is not used: it holds {holds}, and labels go up to {count - 1}")
        return [str(i) for i in range(count)]

    def splits(self) -> dict[str, np.ndarray]:
        """Labels from the ``cls`` or ``json`` members."""
        return self._labels

    def read(self, split: str, index: int) -> Sample:
        """The image's own bytes; other binary members go along."""
        tar, key, members = self._samples[split][index]
        found = {name: self._tars[tar].read(position) for name, position in members.items() if name != "cls"}
        info = samples.parsed(found.pop("json", b"{}")) or {}
        image = found.pop(samples.image_of(found) or "")
        found = {name: data for name, data in found.items() if samples.can_be_kept(name)}
        if "mask.png" in found:
            found["mask.png"] = images.mask_png(found["mask.png"])
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
        return self._place(self._samples[split][index])

    def _place(self, sample: tuple[int, str, Member]) -> str:
        return f"{self._used[sample[0]]}#{sample[1]}"

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
    copy = scratch / f".{hashlib.sha256(os.fsencode(url)).hexdigest()[:16]}.tar"
    if not copy.exists():
        from webdataset.gopen import gopen

        try:
            with atomic(copy) as target, gopen(url) as stream:
                shutil.copyfileobj(stream, target, COPY_BLOCK)
        except (OSError, ValueError) as error:
            raise FetchError(f"cannot fetch {url} ({error}); the same command tries again") from error
    return copy


def _split_of(url: str) -> str:
    """By the tar's name, else by the folders above it."""
    parts = [part for part in re.split(r"[/\\]", url) if part]
    return next((split for split in map(split_within, reversed(parts)) if split), "train")


def _first_names(path: Path) -> list[str]:
    """The first names in a tar; none if it is damaged."""
    try:
        with tarfile.open(path, "r:") as tar:
            return [member.name for member, _ in zip(tar, range(40), strict=False) if member.isreg()]
    except (tarfile.TarError, *HEADER_ERRORS):
        return []


def _class_names(manifest: Path) -> list[str]:
    """The class names of a ``manifest.json``; none of one that another program has written."""
    try:
        names = read_json(manifest)["classes"]
    except (DamagedFile, OSError, LookupError, TypeError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
