"""A colour per class: by a table next to the masks (``--palette``), else each colour is a class, and black none."""

import re

import numpy as np

from sslkit.errors import SslkitError, named, number_of
from sslkit.probes.segmentation.annotations.encodings.base import UNKNOWN, MaskEncoding, SeenPixels

MOST = 256  # colours without a table; more are those of a photo, or of a mask that was compressed
VOID = re.compile(r"void|ignored?|unlabell?ed|don.?t care|unknown|undefined", re.I)
BACKGROUND = re.compile(r"background|bg|none", re.I)


class Colours(MaskEncoding):
    """The value is a class's row in the table, or the colour itself."""

    def __init__(self, seen: SeenPixels):
        super().__init__(seen)
        table = seen.table
        if table is None:
            if len(seen.colours) > MOST:
                raise SslkitError(
                    f"the masks are in more than {MOST} colours, as photos and JPEG files are: save masks as PNG, "
                    "with a colour or a number for each class"
                )
            self.classes = {int(colour): f"#{colour:06x}" for colour in seen.colours}
            self.took = (
                "colours, each of them a class and black the background; a table names them: --palette FILE, with a "
                "line such as '128 0 0 car' for each"
            )
            return
        self.classes = dict(enumerate(table.names))
        self.void = frozenset(value for value, name in self.classes.items() if VOID.fullmatch(name))
        self.background = next((value for value, name in self.classes.items() if BACKGROUND.fullmatch(name)), None)
        self.took = f"colours of {number_of(len(table.colours), 'class')} by {table.source}"
        self._order = np.argsort(table.colours)
        self._sorted = np.array(table.colours)[self._order]
        if not table.fits(seen.colours.tolist()):
            raise SslkitError(
                f"the masks' colours are not those of {table.source}, which lacks {self._missing(seen.colours)}: "
                "name the right table by --palette FILE"
            )

    @classmethod
    def recognise(cls, seen: SeenPixels) -> bool:
        """Whatever is in colour."""
        return not seen.grey

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """Rows of the table; a colour that it lacks stands for nothing."""
        if self.seen.table is None:
            return pixels
        place = np.searchsorted(self._sorted, pixels).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[place] == pixels, self._order[place], UNKNOWN)

    def _missing(self, colours: np.ndarray) -> str:
        missing = [int(colour) for colour in colours[~np.isin(colours, self._sorted)]]
        return named([f"{c >> 16} {c >> 8 & 255} {c & 255}" for c in missing])
