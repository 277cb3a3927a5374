"""What all figures have in common: colours that any eye tells apart, axes with units, a text in the picture's place.

A figure is drawn with matplotlib's object interface (no global state) and kept as a PNG that carries its text
alternative, or as an SVG that stands in a page and follows its light and dark.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.files import atomic

# Okabe and Ito's palette: told apart with any colour vision. Line styles tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
DPI = 130
LEGEND_WIDTH = 0.97  # of a figure's width, at most
# matplotlib's own rule for lines; and text that names no colour has the page's, too.
ROOT_STYLE = "stroke-linejoin: round; stroke-linecap: butt; fill: currentColor"


def colour(number: int) -> str:
    """The colour of the n-th run or method, everywhere."""
    return COLOURS[number % len(COLOURS)]


def style(number: int) -> str:
    """A line style, which changes with the colour and once more when the colours come round."""
    return STYLES[(number + number // len(COLOURS)) % len(STYLES)]


def label(axes: Axes, x: str, y: str) -> None:
    """Name both axes, with units, and take away what carries no data."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, axes: Sequence[Axes], columns: int = 3) -> float:
    """One legend for all axes, below them, where it hides nothing.

    Args:
        figure: as wide as it will be.
        axes: what they name is named once.
        columns: at most; fewer where the names are too long for the figure's width.

    Returns:
        The legend's height in inches.
    """
    handles = {handle.get_label(): handle for each in axes for handle in each.get_legend_handles_labels()[0]}
    for count in range(min(columns, len(handles)), 0, -1):
        made = figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=count, frameon=False)
        extent = made.get_window_extent()
        if count == 1 or extent.width <= LEGEND_WIDTH * figure.bbox.width:
            return extent.height / figure.dpi
        made.remove()
    return 0.0


def save_png(figure: Figure, path: Path, alt: str) -> None:
    """Write a PNG, whole or not at all, with its text alternative as the file's ``Description``."""
    with atomic(path) as handle:
        figure.savefig(handle, format="png", dpi=DPI, metadata={"Description": alt, "Software": None})


def as_svg(figure: Figure, alt: str, name: str) -> str:
    """An SVG element for a page: black becomes the text's colour there, and a screen reader reads ``alt``.

    A page may set ``--series-0``, ``--series-1``, ... to shades of ``COLOURS`` that suit its ground. An artist's
    ``set_gid("line")`` is found in the page as the id ``NAME-line``.

    Args:
        figure: with a transparent ground.
        alt: what the figure shows, in words.
        name: letters and digits, its own in the page; ids within the SVG begin with it.
    """
    import html

    import matplotlib

    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    # Namespaces of metadata, and a style sheet that would hold for the whole page; its rule goes to the root instead.
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\s*<defs>\s*<style type="text/css">.*?</style>\s*</defs>', "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(?<=id=")|(?<=url\(#)|(?<=xlink:href="#)', f"{name}-", svg)
    svg = re.sub(r"#(?:000000|262626|333333)\b", "currentColor", svg)
    for number, code in enumerate(COLOURS):
        svg = svg.replace(code.lower(), f"var(--series-{number}, {code})")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    # The page decides on the width.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    about = f'role="img" aria-label="{html.escape(alt, quote=True)}" style="{ROOT_STYLE}"'
    return svg.replace("<svg", f"<svg {about}", 1)
