"""The slider of the attention page: it sets the share of the mass that the masks hold.

Nothing is computed in the browser. ``first_percent`` says from which whole percent on each patch belongs to the
mask, so that a mask at p percent is ``steps <= p``: the rule, its ties and its rounding stay those of Python. The
script is ``templates/slider.js``.
"""

import base64
import html

from sslkit.plots.pictures import SHADE, STRENGTH
from sslkit.plots.sheet import Tile

# Covers the patches that a mask leaves out, as a CSS colour.
COVER = f"rgba({SHADE[0]}, {SHADE[1]}, {SHADE[2]}, {STRENGTH})"


def control(keep: float, shown: str) -> str:
    """The slider as HTML; it stays hidden where scripts do not run.

    Args:
        keep: share of the mass in the pictures as they are drawn.
        shown: the same in words.
    """
    percent = min(max(round(100 * keep), 1), 100)
    return (
        '<div class="mass" hidden><label for="mass">Share of the mass in the masks</label>'
        f'<input id="mass" type="range" min="1" max="100" step="1" value="{percent}" autocomplete="off" '
        f'aria-valuetext="{percent} percent of the mass">'
        f'<output id="mass-told" for="mass">{html.escape(shown)}</output></div>'
    )


def attributes(tile: Tile) -> str:
    """What the script reads of a figure; empty for a picture that does not move."""
    if tile.steps is None:
        return ""
    steps = base64.b64encode(tile.steps.contiguous().cpu().numpy().tobytes()).decode()
    photo = " data-over-photo" if tile.over_photo else ""
    return f' data-steps="{steps}" data-columns="{tile.steps.shape[1]}"{photo}'
