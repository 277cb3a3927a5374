"""CIFAR from torchvision, in a folder or downloaded: what ``sources/cifar10.py`` and ``cifar100.py`` share."""

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sslkit.data import images
from sslkit.data.prepare.split_names import VAL_IS_TEST
from sslkit.data.sources.base import Sample, Source, cache_folder
from sslkit.errors import SslkitError, UsageError


class CifarSource(Source):
    """A CIFAR dataset; subclasses name it.

    ``--root`` is a folder that holds the official python batches, or where they are downloaded to.
    """

    dataset: str
    """Name of the class in ``torchvision.datasets``."""

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            return cache_folder()
        root = Path(self.root).expanduser()
        if root.is_file():
            raise UsageError(
                f"--root {root} is a file: for an archive of images use --source folder --root {root}; "
                f"{self.dataset} needs the folder of the official python batches, or one to download them to"
            )
        return root

    @cached_property
    def _data(self) -> dict[str, tuple[np.ndarray, np.ndarray, list[str]]]:
        """Split -> pixels uint8 (N, 32, 32, 3), labels (N,), class names."""
        import torchvision.datasets

        kind = getattr(torchvision.datasets, self.dataset)
        base = self._folder.parent if self._folder.name == kind.base_folder else self._folder
        # Missing or damaged batches (torchvision compares their MD5) are downloaded.
        return {"train": _load(kind, base, train=True), "val": _load(kind, base, train=False)}

    def open(self, scratch: Path) -> None:
        """Read the batches, and download them first if they are missing."""
        self.classes = self._data["train"][2]
        self.remarks.append(VAL_IS_TEST)

    def splits(self) -> dict[str, np.ndarray]:
        """50,000 labels for train, 10,000 for val (the official test set)."""
        return {split: labels for split, (_, labels, _) in self._data.items()}

    def read(self, split: str, index: int) -> Sample:
        """The image as PNG, which is lossless."""
        pixels, labels, names = self._data[split]
        label = int(labels[index])
        return Sample(f"{split}/{names[label]}/{index:05d}", images.encode_png(pixels[index]), "png", label)

    def __getstate__(self) -> dict[str, Any]:
        # Every process reads the batches itself: faster than sending 180 MB through a pipe.
        return {key: value for key, value in self.__dict__.items() if key != "_data"}


def _load(kind: Any, base: Path, train: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    try:
        # NumPy 2.4 warns of how the official pickles write a dtype.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = kind(base, train=train, download=False)
            except RuntimeError:
                base.mkdir(parents=True, exist_ok=True)
                dataset = kind(base, train=train, download=True)
    except (OSError, RuntimeError) as error:
        reason, batches = " ".join(str(error).split()), base / kind.base_folder
        what = f"{batches} is incomplete or damaged" if batches.is_dir() else f"there is no {batches.name} in {base}"
        raise SslkitError(
            f"{what}, and {kind.__name__} could not be downloaded ({reason}); "
            f"--root names a folder that holds {batches.name}"
        ) from error
    return dataset.data, np.array(dataset.targets, np.int64), list(dataset.classes)
