"""What all figures share: colours for any colour vision, labelled axes, legends, and saving as PNG or SVG.

Figures use matplotlib's object interface (no global state). A PNG carries its text alternative; an SVG is made for a
page and follows its light and dark themes.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.files import atomic

# Okabe and Ito's palette, distinct with any colour vision; line styles distinguish them in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
DPI = 130
LEGEND_WIDTH = 0.97  # of a figure's width, at most
# matplotlib's own rule for lines; text without a colour takes the page's.
ROOT_STYLE = "stroke-linejoin: round; stroke-linecap: butt; fill: currentColor"
# In a page, black and matplotlib's near-blacks become its text colour, and series take its shades.
PAGE_COLOURS = dict.fromkeys(("#000000", "#262626", "#333333"), "currentColor") | {
    code.lower(): f"var(--series-{number}, {code})" for number, code in enumerate(COLOURS)
}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def colour(number: int) -> str:
    """The colour of the n-th run or method, everywhere."""
    return COLOURS[number % len(COLOURS)]


def style(number: int) -> str:
    """The n-th line style, which differs for equal colours when the colours repeat."""
    return STYLES[(number + number // len(COLOURS)) % len(STYLES)]


def label(axes: Axes, x: str, y: str) -> None:
    """Name both axes, with units; draw a light grid and no frame at the top and right."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


@contextmanager
def _any_script() -> Iterator[None]:
    """Class names may be in a script that the font lacks, or emoji; a box in their place needs no warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def legend(figure: Figure, axes: Sequence[Axes], columns: int = 3) -> None:
    """Add one legend for all axes below them, in at most ``columns`` columns.

    The figure grows by its height: however many names it lists, it takes nothing of the axes, which are as high as
    their own names are long. A name on several axes is listed once. The figure must have its final width.
    """
    handles = {handle.get_label(): handle for each in axes for handle in each.get_legend_handles_labels()[0]}
    for count in range(min(columns, len(handles)), 0, -1):
        made = figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=count, frameon=False)
        with _any_script():
            extent = made.get_window_extent()
        if count == 1 or extent.width <= LEGEND_WIDTH * figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)
            return
        made.remove()


def save_png(figure: Figure, path: Path, alt: str) -> None:
    """Write a PNG, whole or not at all, with its text alternative as the file's ``Description``."""
    with atomic(path) as handle, _any_script():
        figure.savefig(handle, format="png", dpi=DPI, metadata={"Description": alt, "Software": None})


def as_svg(figure: Figure, alt: str, name: str) -> str:
    """An SVG element for a page: black follows the page's text colour, and a screen reader reads ``alt``.

    A page may set ``--series-0``, ``--series-1``, ... to shades of ``COLOURS`` that suit its background. All ids begin
    with ``name`` (letters and digits, unique in the page): an artist's ``set_gid("line")`` becomes ``NAME-line``.
    """
    import matplotlib

    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), _any_script():
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Type", "Format")))
    svg = ElementTree.fromstring(buffer.getvalue())
    # A style sheet would apply to the whole page: move its only rule to the root, and drop the fixed size.
    svg.remove(next(defs for defs in svg if defs.find(f"{{{SVG}}}style") is not None))
    del svg.attrib["width"], svg.attrib["height"]
    for element in svg.iter():
        for key, value in element.items():
            element.set(key, _for_page(key, value, name))
    svg.attrib |= {"role": "img", "aria-label": alt, "style": ROOT_STYLE}
    return ElementTree.tostring(svg, encoding="unicode")


def _for_page(key: str, value: str, name: str) -> str:
    """An attribute's or a style's value with the figure's own ids and the page's colours and font."""
    if key == "id":
        return f"{name}-{value}"
    if key == f"{{{XLINK}}}href":
        return value.replace("#", f"#{name}-", 1) if value.startswith("#") else value
    if key == "style":
        declarations = [declaration.split(": ", 1) for declaration in value.split("; ")]
        return "; ".join(f"{part}: {_for_page(part, given, name)}" for part, given in declarations)
    if key == "font-family":
        return "inherit"
    return PAGE_COLOURS.get(value, value.replace("url(#", f"url(#{name}-"))
