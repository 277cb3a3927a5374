"""Parquet files of images, such as those that Hugging Face's Hub gives: needs the extra ``sslkit[parquet]``.

An image column holds bytes, or bytes and a path. Labels are numbers, whose names the schema may hold, or names. The
split is in the file's name, or in its folder's.
"""

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sslkit.data import images
from sslkit.data.prepare import formats
from sslkit.data.prepare.archives.files import Files, Window, check_readable
from sslkit.data.prepare.archives.fingerprints import file_fingerprint, files_fingerprint
from sslkit.data.prepare.archives.nested import read_window
from sslkit.data.prepare.samples import LABEL_KEYS, numbered
from sslkit.data.prepare.split_names import split_named, split_within
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import SslkitError, UsageError
from sslkit.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGE_KEYS = ("image", "img", "images", "picture", "photo", "pixel_values", "jpg", "png", "bytes")
HUB_KEYS = ("fine_label", "labels")  # CIFAR-100's, and others'
LIKE_A_LABEL = re.compile("label|class|categor|genus|species|breed", re.I)
ROWS = 64  # of a file in memory


@dataclass(frozen=True)
class Columns:
    """What is read of a file.

    Attributes:
        image: column of encoded images.
        label: column of labels, None for none.
        other_images: further columns of images.
        other_labels: further columns of labels.
        rest: the first of the columns that hold no images.
        names: class names that the schema holds.
    """

    image: str
    label: str | None
    other_images: tuple[str, ...]
    other_labels: tuple[str, ...]
    rest: tuple[str, ...]
    names: tuple[str, ...] | None

    def __str__(self) -> str:
        """Both columns, in words."""
        return f"images in {self.image}, {f'labels in {self.label}' if self.label else 'no labels'}"


class Parquet(Source):
    """Rows of parquet files; the images are copied to one file per split, as rows have no random access."""

    specific = 30

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """By the suffix."""
        count = sum(name.lower().endswith(".parquet") for name in files.names)
        return f"{count} parquet file{'' if count == 1 else 's'}" if count else None

    def open(self, scratch: Path) -> None:
        """Copy the images out, file by file, and read the labels."""
        if not find_spec("pyarrow"):
            raise UsageError("reading parquet needs pyarrow: pip install 'sslkit[parquet]'")
        self._test_is_val = False
        parts = self._split_of_each()
        values: dict[str, list[Any]] = {}
        names: list[str] | None = None
        self._copies: dict[str, Path] = {}
        self._ends: dict[str, np.ndarray] = {}
        self._keys: dict[str, list[str]] = {}
        columns: dict[Columns, None] = {}
        for split, paths in parts.items():
            self._copies[split] = scratch / f".{split}.images"
            ends, self._keys[split], values[split] = array("q"), [], []
            with atomic(self._copies[split]) as target:
                for path in paths:
                    read = _columns(path, self.label_key)
                    columns[read] = None
                    names = _copy(path, read, target, ends, self._keys[split], values[split]) or names
            self._ends[split] = np.array(ends, np.int64)
        self._note_columns(list(columns))
        every = [key for keys in self._keys.values() for key in keys]
        labels, found, remarks = numbered([value for part in values.values() for value in part], every.__getitem__)
        self.remarks += remarks
        count = int(labels.max(initial=-1)) + 1
        if names and len(names) < count:
            self.remarks.append(f"the {len(names)} class names of the schema are not used: labels go up to {count - 1}")
        self.classes = (names if names and len(names) >= count else found) or [str(i) for i in range(count)]
        cuts = np.cumsum([len(part) for part in values.values()])[:-1]
        self._labels = dict(zip(values, np.split(labels, cuts), strict=True))
        if not len(labels) or not len(self._labels["train"]):
            raise SslkitError(f"no rows with an image in {self.root}")
        if self._test_is_val and not self.keeps_test():
            del self._labels["val"]

    @cached_property
    def _root(self) -> Path:
        if self.root is None:
            raise UsageError("the source 'parquet' needs --root: a parquet file, or a folder of them")
        return Path(self.root).expanduser()

    @cached_property
    def _paths(self) -> list[Path]:
        if self._root.is_file():
            return [self._root]
        return sorted(path for path in self._root.rglob("*.parquet") if not path.name.startswith("."))

    def _split_of_each(self) -> dict[str, list[Path]]:
        """The files of every split that is used."""
        named: dict[str, list[Path]] = {}
        for path in self._paths:
            above = path.relative_to(self._root).parent.parts if self._root.is_dir() else ()
            split = split_within(path.stem) or next(filter(None, map(split_named, reversed(above))), "train")
            named.setdefault(split, []).append(path)
        if self._root.is_dir():
            every = (path.name for path in self._root.rglob("*") if path.is_file() and path not in set(self._paths))
            self.left_out.update(formats.kinds(every))
        if "train" not in named:
            raise SslkitError(f"no parquet file of train in {self._root}: found {', '.join(named) or 'none'}")
        if "test" in named:
            test = named.pop("test")
            if "val" in named:
                self.left_out[".parquet"] += len(test)
                self.remarks.append(f"test ({len(test)} files) is not used, as there is a val")
            else:
                self._test_is_val = True
                named["val"] = test
        return {split: named[split] for split in ("train", "val") if split in named}

    def _note_columns(self, columns: list["Columns"]) -> None:
        """Say which columns are read, and which others hold labels or images."""
        read = list(dict.fromkeys(map(str, columns)))
        self.took = "; ".join(filter(None, (self.took, *read)))
        if len(read) > 1:
            self.remarks.append(f"the files differ in their columns: {'; '.join(read)}")
        for key in dict.fromkeys(key for one in columns for key in one.other_labels):
            self.remarks.append(f"{key} holds labels as well: --label-key {key} takes it")
        for key in dict.fromkeys(key for one in columns for key in one.other_images):
            self.remarks.append(f"{key} holds images as well and is not used")
        for rest in dict.fromkeys(one.rest for one in columns if one.label is None and one.rest):
            self.remarks.append(f"no column is known to hold labels; --label-key NAME takes one of: {', '.join(rest)}")

    def splits(self) -> dict[str, np.ndarray]:
        """Labels of the rows."""
        return self._labels

    def read(self, split: str, index: int) -> Sample:
        """The row's own bytes."""
        start = int(self._ends[split][index - 1]) if index else 0
        data = read_window(Window(self._copies[split], start, int(self._ends[split][index]) - start))
        return Sample(self.name(split, index), data, images.extension(data), int(self._labels[split][index]))

    def name(self, split: str, index: int) -> str:
        """The file, the row, and the path in it where there is one."""
        return self._keys[split][index]

    def fingerprint(self) -> str:
        """Of the names and sizes of the files, or of the one file."""
        return files_fingerprint(self._root) if self._root.is_dir() else file_fingerprint(self._root)


def _columns(path: Path, key: str | None) -> Columns:
    """Which columns of a file are read.

    Raises:
        SslkitError: it is damaged, or has no image column.
        UsageError: it has no column ``key``.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    features = _features(schema)
    pictures, truths = _image_columns(path, schema, features), _label_columns(path, schema, features, key)
    label, names = (truths[0] if truths else None), features.get(truths[0], {}).get("names") if truths else None
    return Columns(
        image=pictures[0],
        label=label,
        other_images=tuple(pictures[1:]),
        other_labels=tuple(truths[1:]),
        rest=tuple(name for name in schema.names if name not in pictures)[:8],
        names=tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None,
    )


def _opened(path: Path) -> "pq.ParquetFile":
    import pyarrow.parquet as pq

    check_readable(path)
    try:
        return pq.ParquetFile(path)
    except Exception as error:  # Damaged files raise anything.
        raise _damaged(path, error) from error


def _copy(
    path: Path, columns: Columns, target: Any, ends: array, keys: list[str], values: list[Any]
) -> list[str] | None:
    """Append the images of one file; returns the class names that its schema holds.

    Raises:
        SslkitError: it is damaged.
    """
    with _opened(path) as file:
        for pictures, truth in _batches(path, file, columns.image, columns.label):
            for picture, value in zip(pictures, truth, strict=True):
                data, name = _bytes(picture, path.parent)
                target.write(data)
                ends.append(len(data) + (ends[-1] if ends else 0))
                keys.append(f"{path.stem}/{name or len(keys)}")
                values.append(value)
    return None if columns.names is None else list(columns.names)


def _batches(
    path: Path, file: "pq.ParquetFile", image: str, label: str | None
) -> Iterator[tuple[list[Any], list[Any]]]:
    """(cells of the image column, cells of the label column) of ``ROWS`` rows at a time."""
    try:
        for batch in file.iter_batches(ROWS, columns=[image] if label is None else [image, label]):
            pictures = batch.column(image).to_pylist()
            yield pictures, [None] * len(pictures) if label is None else batch.column(label).to_pylist()
    except GeneratorExit:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SslkitError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return SslkitError(f"{path} cannot be read ({reason}); download it again")


def _features(schema: "pa.Schema") -> dict[str, Any]:
    """What Hugging Face's datasets writes about each column: its ``_type``, and a ClassLabel's ``names``."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (LookupError, ValueError, TypeError, RecursionError):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def _image_columns(path: Path, schema: "pa.Schema", features: dict[str, Any]) -> list[str]:
    """Every column of encoded images, the one to read first."""
    import pyarrow as pa

    typed = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    binary = [
        field.name
        for field in schema
        if (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
        or pa.types.is_binary(field.type)
        or pa.types.is_large_binary(field.type)
    ]
    if found := list(dict.fromkeys((*typed, *(name for name in IMAGE_KEYS if name in binary), *binary))):
        return found
    raise SslkitError(f"{path} has no column of encoded images: its columns are {', '.join(schema.names[:8])}")


def _label_columns(path: Path, schema: "pa.Schema", features: dict[str, Any], key: str | None) -> list[str]:
    """Every column of labels, the one to read first."""
    if key is not None and key not in schema.names:
        raise UsageError(f"--label-key {key}: {path} has the columns {', '.join(schema.names[:8])}")
    typed = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    usual = [name for name in (*HUB_KEYS, *LABEL_KEYS) if name in schema.names]
    found = [*([] if key is None else [key]), *(name for name in usual if name in typed), *typed, *usual]
    found += [name for name in schema.names if found and LIKE_A_LABEL.search(name)]  # said, never taken unasked
    return list(dict.fromkeys(found))


def _bytes(picture: Any, folder: Path) -> tuple[bytes, str | None]:
    """(encoded image, its path) of a cell: bytes, or a struct of bytes and path."""
    if not isinstance(picture, dict):
        return picture if isinstance(picture, bytes) else b"", None
    data, name = picture.get("bytes"), picture.get("path")
    name = name if isinstance(name, str) else None
    if data is None and name and (folder / name).is_file():
        data = (folder / name).read_bytes()
    return data if isinstance(data, bytes) else b"", name
