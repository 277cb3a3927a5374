"""What an encoding of masks is. A file dropped into this folder is tried on every set of masks at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sslkit.probes.segmentation.annotations.colour_table import ColourTable

PACKAGE = "sslkit.probes.segmentation.annotations.encodings"
UNKNOWN = -1  # the value of a pixel that stands for nothing known


@dataclass(frozen=True)
class SeenPixels:
    """Everything that the masks of a set hold, however often."""

    grey: bool  # all are grey or palette images, or hold equal red, green and blue
    colours: np.ndarray  # (C,) int64, 0xRRGGBB; of grey and palette images their values
    table: ColourTable | None  # of colours, if one was named or found


class MaskEncoding(ABC):
    """How a mask file says which value a pixel has.

    Args:
        seen: what the masks hold.

    Attributes:
        took: how the files were understood, in words; empty if there is but one way.
        specific: of the encodings that recognise masks, the one with the highest number is taken.
        void: the values that are never counted by convention.
        background: the value that is no object; None where every class is one.
        classes: names by value, where the encoding knows them.
    """

    specific: ClassVar[int] = 50
    void: frozenset[int] = frozenset()
    background: int | None = 0
    took: str = ""

    def __init__(self, seen: SeenPixels):
        self.seen = seen
        self.classes: Mapping[int, str] = {}

    @classmethod
    @abstractmethod
    def recognise(cls, seen: SeenPixels) -> bool:
        """Whether masks with these pixels are written so."""

    @abstractmethod
    def values(self, pixels: np.ndarray) -> np.ndarray:
        """The value of each pixel, ``UNKNOWN`` for none: (H, W) int64 as in ``SeenPixels.colours`` -> (H, W) int64."""
