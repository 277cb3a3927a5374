"""Class ids above 255 in two channels of a colour image: red + 256 green, as ImageNet-S writes them; 1000 is void."""

import numpy as np

from sslkit.probes.segmentation.annotations.encodings.base import MaskEncoding, SeenPixels

VOID = 1000


class TwoChannels(MaskEncoding):
    """The value is red + 256 green."""

    specific = 60
    void = frozenset({VOID})
    took = f"class ids of two channels, red + 256 green, {VOID} for void, as in ImageNet-S"

    @classmethod
    def recognise(cls, seen: SeenPixels) -> bool:
        """Nothing is blue, nothing above 1000, and no table says that these are colours."""
        return not seen.grey and seen.table is None and bool((_ids(seen.colours) <= VOID).all())

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """Ids from 0 to 1000."""
        return _ids(pixels)


def _ids(colours: np.ndarray) -> np.ndarray:
    """0xRRGGBB -> red + 256 green; blue makes it larger than any id."""
    return (colours >> 16) + (colours & 0xFF00) + (colours << 16 & 0xFF0000)
