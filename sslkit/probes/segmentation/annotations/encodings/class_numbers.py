"""A class number per pixel: grey images of 1, 8, 16 or 32 bits and palette images, as VOC's; 255 is void."""

import numpy as np

from sslkit.probes.segmentation.annotations.encodings.base import MaskEncoding, SeenPixels


class ClassNumbers(MaskEncoding):
    """The value is the number that the file holds, not the colour in which a palette shows it."""

    void = frozenset({255})

    @classmethod
    def recognise(cls, seen: SeenPixels) -> bool:
        """Without colours."""
        return seen.grey

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """As they are."""
        return pixels
