"""The slider of the attention page, which sets the share of the mass in the masks; its script is ``slider.js``.

``first_percent`` gives the percent from which each patch is in the mask: the browser only compares ``steps <= p``.
"""

import base64
import html

from sslkit.plots.pictures import SHADE, STRENGTH
from sslkit.plots.sheet import Tile

COVER = f"rgba({SHADE[0]}, {SHADE[1]}, {SHADE[2]}, {STRENGTH})"  # of patches outside a mask, as a CSS colour


def control(keep: float, shown: str) -> str:
    """The slider as HTML, hidden where scripts do not run; it starts at the share of the mass in the pictures.

    ``shown`` is that share in words.
    """
    percent = min(max(round(100 * keep), 1), 100)
    return (
        '<div class="mass" hidden><label for="mass">Share of the mass in the masks</label>'
        f'<input id="mass" type="range" min="1" max="100" step="1" value="{percent}" autocomplete="off" '
        f'aria-valuetext="{percent} percent of the mass">'
        f'<output id="mass-told" for="mass">{html.escape(shown)}</output></div>'
    )


def attributes(tile: Tile) -> str:
    """The data attributes of a figure that the script reads; empty for a picture that does not change."""
    if tile.steps is None:
        return ""
    steps = base64.b64encode(tile.steps.contiguous().cpu().numpy().tobytes()).decode()
    photo = " data-over-photo" if tile.over_photo else ""
    return f' data-steps="{steps}" data-columns="{tile.steps.shape[1]}"{photo}'
