"""Frozen features on disk, read through memory maps: only the rows in use are in memory.

Any program can write them: ``cls.npy`` (N, D) and ``labels.npy`` (N,), -1 where there is no label, are enough for
``knn`` and ``linear``. Whatever is wrong with such files is found here and reported in one line.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslkit.data.class_balanced import MOST_CLASSES
from sslkit.errors import SslkitError

CHUNK = 8192  # rows read at once: what bounds the memory of a pass over the features


@dataclass(frozen=True)
class Features:
    """The features of one split."""

    path: Path  # for messages
    parts: tuple[np.ndarray, ...]  # memory-mapped arrays (N, ...) whose rows are flattened and joined; one or two
    labels: np.ndarray  # (R,) int64, labels of the labelled rows only
    rows: np.ndarray  # (R,) int64, the rows that have a label, ascending

    @property
    def width(self) -> int:
        """Numbers per row, D."""
        return sum(int(np.prod(part.shape[1:])) for part in self.parts)

    def __len__(self) -> int:
        """Labelled rows, R."""
        return len(self.rows)

    def keep(self, positions: np.ndarray) -> "Features":
        """These features with fewer labelled rows: those at the given positions among them, ascending."""
        return replace(self, labels=self.labels[positions], rows=self.rows[positions])

    def take(self, index: np.ndarray) -> Tensor:
        """Labelled rows by their position among the labelled: (B,) -> (B, D) float32."""
        where = torch.from_numpy(self.rows[index])
        picked = [_picked(part, where).flatten(1).float() for part in self.parts]
        return picked[0] if len(picked) == 1 else torch.cat(picked, 1)

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[slice, Tensor]]:
        """All labelled rows in order, as (positions, (B, D) float32).

        Raises:
            SslkitError: a row holds NaN or infinity.
        """
        for start in range(0, len(self), size):
            where = slice(start, min(start + size, len(self)))
            batch = self.take(np.arange(where.start, where.stop))
            # The sum is not finite if any entry is not, and takes a tenth of the time of testing every entry.
            if not torch.isfinite(batch.sum()) and not torch.isfinite(batch).all():
                bad = int(torch.isfinite(batch).all(1).logical_not().nonzero()[0])
                raise SslkitError(
                    f"{self.path}: row {self.rows[start + bad]} holds NaN or infinity; did training diverge? "
                    "check the encoder, then extract again"
                )
            yield where, batch
            for part in self.parts:
                _release(part)


def _picked(part: np.ndarray, where: Tensor) -> Tensor:
    """Some rows; those of another byte order or of long doubles, which torch has not, are converted."""
    if part.dtype.isnative and part.dtype.itemsize <= 8:
        return torch.from_numpy(part).index_select(0, where)
    return torch.from_numpy(part[where.numpy()].astype(np.float32))


def _release(array: np.ndarray) -> None:
    """Release the pages of a memory map, which would otherwise count as memory of the process once they were read."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def open_features(files: Sequence[Path], labels: Path, last: int | None = None, unlabelled: bool = False) -> Features:
    """Open the features of one split.

    Args:
        files: arrays (N, D) or (N, L, D); their rows are joined.
        labels: array (N,) of integers, -1 = unlabelled.
        last: of arrays (N, L, D) keep only the last ``last`` of the L.
        unlabelled: keep the rows without a label too, with label -1.

    Raises:
        SslkitError: a file is not an array, shapes do not match, or no row has a label.
    """
    arrays = []
    for path in files:
        array = open_array(path)
        if array.ndim < 2 or array.dtype.kind != "f":
            raise SslkitError(f"{path} holds {array.dtype} of shape {array.shape}; floats of shape (N, D) are required")
        if last is not None and array.ndim == 3:
            if last > array.shape[1]:
                raise SslkitError(
                    f"{path} holds the last {array.shape[1]} blocks, not {last}: extract with --last-blocks {last}"
                )
            array = array[:, array.shape[1] - last :]
        arrays.append(array)
    marks = open_labels(labels)
    for path, array in zip(files, arrays, strict=True):
        if len(array) != len(marks):
            raise SslkitError(f"{path} has {len(array)} rows and {labels.name} has {len(marks)}: extract again")
    rows = np.arange(len(marks)) if unlabelled else np.flatnonzero(marks >= 0)
    if not len(rows):
        raise SslkitError(
            f"{labels} has no labels ({len(marks)} rows, all -1): probes require labelled images; "
            "prepare from class folders, or with --labels FILE"
        )
    return Features(files[0], tuple(arrays), marks[rows], rows)


def open_labels(path: Path) -> np.ndarray:
    """The labels of a split: (N,) int64, -1 = unlabelled.

    Raises:
        SslkitError: it is not an array of integers, or one of them is no class number.
    """
    marks = np.asarray(open_array(path))
    if marks.ndim != 1 or marks.dtype.kind not in "iu":
        raise SslkitError(f"{path} holds {marks.dtype} of shape {marks.shape}; integers of shape (N,) are required")
    # Probes hold numbers for every class up to the largest: one absurd label would take all memory.
    odd = np.flatnonzero((marks >= MOST_CLASSES) | (marks < (-1 if marks.dtype.kind == "i" else 0)))
    if len(odd):
        raise SslkitError(
            f"{path}: row {odd[0]} has the label {marks[odd[0]]}; labels are class numbers from 0 to "
            f"{MOST_CLASSES - 1}, or -1 for none: number the classes anew"
        )
    return marks.astype(np.int64)


def open_array(path: Path) -> np.ndarray:
    """The array in an ``.npy`` file, memory-mapped.

    Raises:
        SslkitError: the file is missing or holds no array.
    """
    try:
        # Copy-on-write: torch asks for writable arrays; the file is not changed.
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError as error:
        raise SslkitError(f"{path} is missing: run extract, or put features of another program there") from error
    except Exception as error:  # A damaged header raises anything, tokenize.TokenError included.
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise SslkitError(f"{path} is not a readable .npy array ({reason})") from error


def check_pair(train: Features, val: Features) -> int:
    """Check that two splits belong together, and return the number of classes.

    Raises:
        SslkitError: their widths differ, or train has only one class.
    """
    if train.width != val.width:
        raise SslkitError(
            f"{train.path} is {train.width} wide and {val.path} {val.width}: they come from different encoders"
        )
    present = np.unique(train.labels)
    if len(present) == 1:
        raise SslkitError(
            f"the labels next to {train.path} have only one class ({present[0]}): there is nothing to classify"
        )
    return int(max(train.labels.max(), val.labels.max())) + 1


def check_finite(features: Features) -> None:
    """Read all labelled rows once.

    Raises:
        SslkitError: a row holds NaN or infinity.
    """
    for _ in features.chunks():
        pass


def ranks_of_truth(scores: Tensor, truth: Tensor) -> Tensor:
    """How many classes come before the true one: (B, C) scores, (B,) int64 -> (B,) int64.

    Equal scores rank by ascending class, so a true class is beaten by equal ones with a lower index. Top-k is
    right where the rank is below k; this needs one pass and no sort over the classes.
    """
    own = scores.gather(1, truth[:, None])
    before = torch.arange(scores.shape[1], device=scores.device)[None] < truth[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1)
