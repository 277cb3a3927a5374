"""What a source of images is. A new source is one new file in this folder, found by its name."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sslkit.data.prepare.archives.files import Files
from sslkit.data.prepare.split_names import VAL_IS_TEST
from sslkit.errors import SslkitError

PACKAGE = "sslkit.data.sources"


class FetchError(SslkitError):
    """A source could not be fetched to its end; what was fetched is kept, and rerun the same command to resume."""


@dataclass(frozen=True)
class Sample:
    """One image as a source gives it.

    Attributes:
        key: a recognisable name of the image, for instance ``"cat/0001.jpg"``.
        image: the encoded file.
        extension: what the bytes are: ``jpg``, ``png`` or ``webp``; anything else is re-encoded as PNG.
        label: index into the source's ``classes``, -1 without a label.
        extras: other members of the sample, by extension: ``{"mask.png": ...}``.
        info: anything that JSON can hold; goes into the sample's ``json`` member.
    """

    key: str
    image: bytes
    extension: str
    label: int = -1
    extras: Mapping[str, bytes] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


class Source(ABC):
    """Images with labels, read in any order and from any process: a source can be pickled.

    Args:
        root: where the images are (``--root``): a folder, an archive or a URL; None for a source that needs none.
        seed: for sources that make their images.

    Attributes:
        took: what the source took the place for, such as "class folders in train/ and val/"; empty if that is clear.
        remarks: sentences about what was assumed or not used, for the end of ``prepare``.
        left_out: how many files are not used, by suffix such as ``.heic``.
        label_key: the key or column that labels are in (``--label-key``), for sources that may have several.
        labels: ``FILE[:column]`` of a table that names the classes; empty to find them. A source that takes no table
            ignores it, see ``takes_labels``.
    """

    classes: list[str]
    """Class names in the order of the labels; may be set as late as ``splits()``."""

    specific: int = 0
    """Of the sources that recognise a place, the one with the highest number is taken."""

    dataset_classes: int = 0
    """Classes of the dataset that the source is named after; 0 for a source that reads or makes any."""

    layout_of: str = ""
    """What that dataset is called, where others are laid out like it."""

    takes_labels = False
    """Whether a table of labels can be given."""

    takes_root = True
    """Whether the images are where ``root`` says, and not generated or part of a package."""

    def __init__(self, root: str | Path | None = None, seed: int = 0):
        self.root = None if root is None else str(root)
        self.seed = seed
        self.took = ""
        self.remarks: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.label_key: str | None = None
        self.labels = ""

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """What the place is, in words, if its images are laid out as this source reads them.

        Args:
            files: what is there, by names and sizes; of a compressed archive only the first files.
            root: the folder or archive.

        Returns:
            Such as "Tiny-ImageNet: train/WNID/images and val_annotations.txt"; None if it is something else.
        """
        return None

    def open(self, scratch: Path) -> None:  # noqa: B027  most sources need not
        """Make random access possible; called once, before ``splits`` and ``read``.

        Args:
            scratch: an existing folder for what must be unpacked or fetched first. Complete files in it survive a
                killed process; all of it is removed once the data is prepared.
        """

    @abstractmethod
    def splits(self) -> dict[str, np.ndarray]:
        """Labels of every split, without reading an image: ``{"train": int64 (N,), "val": ...}``, -1 for no label."""

    def keeps_test(self) -> bool:
        """Whether a test that takes the place of a missing val can stay: it cannot without labels if train has some.

        Remarks on it either way; for a source to ask in ``open``, when ``splits`` can be called.
        """
        labels = self.splits()
        keep = bool((labels["val"] >= 0).any()) or not (labels["train"] >= 0).any()
        self.remarks.append(
            VAL_IS_TEST if keep else f"test is not used: none of its {len(labels['val'])} images has a label"
        )
        return keep

    @abstractmethod
    def read(self, split: str, index: int) -> Sample:
        """The sample at ``index`` of a split.

        Raises:
            SslkitError: this one cannot be read; it is skipped and the reason reported.
        """

    def name(self, split: str, index: int) -> str:
        """What messages call a sample that could not be read."""
        return f"{split}/{index}"

    def fingerprint(self) -> str:
        """A string that changes when the images change, so that data prepared from others is recognised as stale."""
        return type(self).__name__


def cache_folder() -> Path:
    """Where downloads are kept: ``$SSLKIT_CACHE``, or ``sslkit`` in the user's cache folder."""
    chosen = os.environ.get("SSLKIT_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sslkit"
