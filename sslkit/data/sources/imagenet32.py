"""Downsampled ImageNet (Chrabaszcz et al., arXiv:1707.08819): the official npz or pickle batches.

``--root`` holds ``train_data_batch_1`` ... ``10`` and ``val_data``, with or without ``.npz``; the sizes 8, 16 and 64
work too. Classes are named by wnid if the official ``map_clsloc.txt`` is in the folder, else ``1`` ... ``1000``.
"""

import hashlib
import math
import pickle
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sslkit.data import images
from sslkit.data.prepare.archives.fingerprints import file_fingerprint
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError
from sslkit.files import atomic

CLASSES = 1000
# All that an array in a pickle is made of. Nothing here runs code from the file.
SAFE = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("numpy", name) for name in ("ndarray", "dtype")),
    ("_codecs", "encode"),
}


class ImageNet32(Source):
    """The batches, unpacked to one memory-mapped array per split, so that memory stays flat."""

    dataset_classes = CLASSES

    def open(self, scratch: Path) -> None:
        """Unpack the official files, which are compressed or pickled and have no random access."""
        self._maps = {split: scratch / f".{split}.pixels.npy" for split in self._batches}
        self._labels: dict[str, np.ndarray] = {}
        for split, batches in self._batches.items():
            kept = scratch / f".{split}.labels.npy"
            if not kept.exists():
                labels = _unpack(batches, self._maps[split])
                with atomic(kept) as handle:
                    np.save(handle, labels)
            self._labels[split] = np.load(kept)
        names = self._root / "map_clsloc.txt"  # lines of "wnid number name"
        lines = (
            [line.split() for line in names.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            if names.exists()
            else []
        )
        named = {int(line[1]): line[0] for line in lines if len(line) > 1 and line[1].isdecimal() and len(line[1]) < 9}
        self.classes = [named.get(i + 1, str(i + 1)) for i in range(CLASSES)]

    @cached_property
    def _root(self) -> Path:
        if self.root is None:
            raise UsageError("the source 'imagenet32' needs --root: the folder of the official npz or pickle batches")
        return Path(self.root).expanduser()

    @cached_property
    def _batches(self) -> dict[str, list[Path]]:
        paths = sorted(self._root.rglob("*"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)])
        files = [path for path in paths if path.is_file() and path.suffix in ("", ".npz")]
        train = [path for path in files if re.fullmatch(r"train_data(_batch_\d+)?", path.stem)]
        val = [path for path in files if path.stem == "val_data"]
        if not train:
            raise SslkitError(f"no train_data_batch_* in {self._root}: --root names the folder of the official batches")
        return {"train": train} | ({"val": val} if val else {})

    def splits(self) -> dict[str, np.ndarray]:
        """Labels 0 ... 999; the files count from 1."""
        return self._labels

    @cached_property
    def _pixels(self) -> dict[str, np.ndarray]:
        return {split: np.load(path, mmap_mode="r") for split, path in self._maps.items()}

    def read(self, split: str, index: int) -> Sample:
        """The image as PNG."""
        row = self._pixels[split][index]
        size = math.isqrt(len(row) // 3)
        pixels = np.ascontiguousarray(row.reshape(3, size, size).transpose(1, 2, 0))
        return Sample(f"{split}/{index:07d}", images.encode_png(pixels), "png", int(self._labels[split][index]))

    def fingerprint(self) -> str:
        """Of the batches' sizes and blocks of their content."""
        digests = [file_fingerprint(path) for batches in self._batches.values() for path in batches]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}


def _unpack(batches: list[Path], target: Path) -> np.ndarray:
    """Write pixels (N, 3 S S) uint8 of all batches as one npy; returns labels (N,) from 0. One batch in memory."""
    labels, width = [], 0
    with atomic(target) as handle:
        handle.write(bytes(128))  # The header is known when the rows are counted; version 1.0 pads it to 64 bytes.
        for path in batches:
            pixels, numbers = _load(path)
            width = width or pixels.shape[1]
            if pixels.shape[1] != width:
                raise SslkitError(f"{path} holds rows of {pixels.shape[1]} bytes, the batches before it of {width}")
            handle.write(np.ascontiguousarray(pixels))
            labels.append(numbers)
        handle.seek(0)
        shape = (sum(map(len, labels)), width)
        np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
        if handle.tell() != 128:
            raise AssertionError("a header of 128 bytes was reserved")
    return np.concatenate(labels)


def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3 S S) uint8 and labels (N,) from 0 of one batch."""
    try:
        with path.open("rb") as handle:
            if path.suffix == ".npz":
                with np.load(handle, allow_pickle=False) as arrays:
                    content = {"data": arrays["data"], "labels": arrays["labels"]}
            else:
                content = _ArraysOnly(handle, encoding="latin1").load()
        pixels, labels = np.asarray(content["data"]), np.asarray(content["labels"], np.int64).ravel() - 1
    except SslkitError:
        raise
    except Exception as error:  # A damaged pickle raises anything.
        raise SslkitError(f"{path} is not one of the official batches ({error}); download it again") from error
    width = pixels.shape[1] if pixels.ndim == 2 else 0
    fits = width > 0 and pixels.dtype == np.uint8 and 3 * math.isqrt(width // 3) ** 2 == width
    if not fits or len(pixels) != len(labels) or ((labels < 0) | (labels >= CLASSES)).any():
        raise SslkitError(f"{path}: expected data uint8 (N, 3 S S) and labels 1 ... {CLASSES}, one for each row")
    return pixels, labels


class _ArraysOnly(pickle.Unpickler):
    """Loads dictionaries, lists, numbers and NumPy arrays; refuses anything else before it could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE:
            raise SslkitError(f"a batch wants to load {module}.{name}, which is not an array: not an official file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
