"""What a layout of photos and masks is. A file dropped into this folder is tried by ``segment --dataset`` at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sslkit.probes.segmentation.annotations.colour_table import ColourTable
from sslkit.probes.segmentation.annotations.pairs import Pairs

PACKAGE = "sslkit.probes.segmentation.annotations.layouts"


@dataclass(frozen=True)
class Meaning:
    """What the values of masks mean, where their kind says so.

    Attributes:
        source: who says so, as in "Cityscapes' label ids".
        classes: names by value.
        void: values that are never counted; None leaves the convention of how masks are written.
        background: the value that is no object; None where every class is one.
        table: the colours of the classes.
        single: values number the objects of each photo, and are no classes.
    """

    source: str
    classes: Mapping[int, str] = field(default_factory=dict)
    void: frozenset[int] | None = None
    background: int | None = 0
    table: ColourTable | None = None
    single: bool = False


@dataclass(frozen=True)
class MaskedSet:
    """Photos and masks of a dataset, before they are read.

    Attributes:
        pairs: by name.
        listed: the file that names the photos to use; None uses all that have a mask.
        took: what the folder was taken for, in words.
        objects: masks of single objects by the photo's name: 0, a number for each object, and 255 for void.
    """

    pairs: Pairs
    listed: Path | None = None
    took: str = ""
    objects: Mapping[str, Path] = field(default_factory=dict)


class MaskLayout(ABC):
    """A way in which photos and masks are laid out.

    Attributes:
        title: of the dataset, or of the kind.
        specific: of the layouts that recognise a folder, the one with the highest number is taken.
    """

    title: ClassVar[str]
    specific: ClassVar[int] = 50

    @classmethod
    @abstractmethod
    def recognise(cls, folders: Mapping[str, Path]) -> bool:
        """Whether a place with these folders, by name in lower case, is laid out so."""

    @abstractmethod
    def find(self, root: Path, folders: Mapping[str, Path], split: str) -> MaskedSet:
        """The photos and masks of a part of it.

        Args:
            root: the dataset's folder.
            folders: those in it, by name in lower case.
            split: such as ``val``.

        Raises:
            SslkitError: there is no such part, or it is not complete.
        """

    @classmethod
    def meaning(cls, masks: Sequence[Path]) -> Meaning | None:
        """What masks of these files mean, if their names say that they are of this layout."""
        return None
