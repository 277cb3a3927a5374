"""A map of features: as a figure, and as a page in which every point shows its image.

Classes are told apart by colour and by marker: up to six have both to themselves, up to 36 a pair of both.
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from sslkit.plots.figure import COLOURS, MARKERS, label, legend
from sslkit.plots.inline import data_uri
from sslkit.plots.pictures import fit
from sslkit.plots.template import render_template, tight
from sslkit.probes.inspect.embedding import JUDGED_BY, Map

TILES = (48, 32)  # pixels, the side of a thumbnail; both multiples of 16, so that JPEG blends none with its neighbour
QUALITIES = (80, 65, 50)  # of the JPEG of thumbnails, tried in turn
BUDGET = 3_000_000  # bytes of thumbnails; a third more of them in the page
PAIRS = len(COLOURS) * len(MARKERS)  # classes that a pair of colour and marker tells apart
SIZE = (6.6, 6.4)  # inches of a figure, without its legend
NAME = 40  # letters of a class in a legend
GREY = "#7a7f8a"  # of what has no label
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Group:
    """The points of one class.

    Attributes:
        name: of the class.
        points: (m,) int64, which of the points.
        colour: number in ``COLOURS``; None is grey.
        marker: number in ``MARKERS``.
    """

    name: str
    points: np.ndarray
    colour: int | None
    marker: int


@dataclass(frozen=True)
class Sprite:
    """Thumbnails in one picture, row by row.

    Attributes:
        jpeg: the encoded picture.
        tile: side of a thumbnail, pixels.
        columns: thumbnails in a row.
    """

    jpeg: bytes
    tile: int
    columns: int


def groups(labels: np.ndarray, names: Sequence[str]) -> list[Group]:
    """Points by class, in the order of the classes that occur; what has no label (-1) comes last.

    A class looks the same whatever others occur: its look goes by its number.
    """
    found = []
    present: list[int] = np.unique(labels[labels >= 0]).tolist()
    for number in present:
        points = np.flatnonzero(labels == number)
        marker = (number + number // len(COLOURS)) % len(MARKERS)
        found.append(Group(names[number], points, number % len(COLOURS), marker))
    if (labels < 0).any():
        found.append(Group(UNLABELLED, np.flatnonzero(labels < 0), None, 0))
    return found


def map_figure(drawn: Map, classes: Sequence[Group]) -> Figure:
    """A scatter plot with equal units on both axes; a legend where colours and markers tell all classes apart."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for group in classes:
        colour = GREY if group.colour is None else COLOURS[group.colour]
        where = drawn.positions[group.points].T
        axes.scatter(
            *where, s=16, c=colour, marker=MARKERS[group.marker], linewidths=0, alpha=0.8, label=_short(group.name)
        )
    axes.set_aspect("equal", adjustable="datalim")
    label(axes, *drawn.axes)
    if len(classes) <= PAIRS:
        figure.set_size_inches(SIZE[0], SIZE[1] + legend(figure, [axes], columns=5))
    else:
        axes.set_title(f"{len(classes)} classes, colours and markers shared: the page names each point", fontsize=10)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def alternative(drawn: Map, classes: Sequence[Group]) -> str:
    """A map in words, with its numbers."""
    count = sum(len(group.points) for group in classes)
    axes = f"axes {drawn.axes[0]} and {drawn.axes[1]}"
    return f"{drawn.title} map of {count} images of {len(classes)} classes, {axes}. {remarks(drawn)}"


def remarks(drawn: Map) -> str:
    """What a reader of the map should know."""
    trust = (
        f"Trustworthiness {drawn.trustworthiness:.3f}: 1 where all {JUDGED_BY} neighbours of a point on the map are "
        "near it in truth, about 0.5 at random."
    )
    if drawn.method == "pca":
        return f"Both axes together show {sum(drawn.facts['explained']):.1f} % of the variance. {trust}"
    kind = f" (perplexity {drawn.facts['perplexity']:g})" if drawn.method == "tsne" else ""
    return (
        f"{drawn.title}{kind} keeps neighbours together: distances between clusters, and their sizes, mean nothing. "
        f"{trust}"
    )


def sprite(pictures: Iterable[Image.Image]) -> Sprite:
    """Square pictures as thumbnails in one JPEG, smaller and coarser until it is within ``BUDGET``."""
    tiles = [fit(picture.convert("RGB"), TILES[0], TILES[0]) for picture in pictures]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    sheet = Image.new("RGB", (columns * TILES[0], -(-len(tiles) // columns) * TILES[0]))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * TILES[0], number // columns * TILES[0]))
    side, content = TILES[0], b""
    for side, quality in ((side, quality) for side in TILES for quality in QUALITIES):
        sized = fit(sheet, sheet.width * side // TILES[0], sheet.height * side // TILES[0])
        buffer = io.BytesIO()
        sized.save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
        if len(content) <= BUDGET:
            break
    return Sprite(content, side, columns)


def page(
    title: str,
    about: Sequence[str],
    maps: Sequence[Map],
    classes: Sequence[Group],
    names: Sequence[str],
    thumbnails: Sprite | None,
    tab: str = "",
) -> str:
    """The page as text.

    Args:
        title: its heading.
        about: a paragraph each.
        maps: of the same n images.
        classes: their points.
        names: (n,) what each image is called.
        thumbnails: one of each image, in order; None where there are no images.
        tab: what a browser's tab calls it; the heading by default.
    """
    from markupsafe import Markup

    where = np.empty(len(names), np.int64)
    for number, group in enumerate(classes):
        where[group.points] = number
    data = {
        "maps": [_map_data(each) for each in maps],
        "classes": [{"name": g.name, "colour": g.colour, "marker": g.marker} for g in classes],
        "class": where.tolist(),
        "names": list(names),
        "sprite": thumbnails and {"tile": thumbnails.tile, "columns": thumbnails.columns},
    }
    uri = data_uri("jpeg", thumbnails.jpeg) if thumbnails else ""
    return render_template(
        "embedding.html.j2",
        tab=tab or title,
        title=title,
        about=about,
        maps=maps,
        classes=classes,
        data=Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
        uri=uri,
        shared=len(classes) > PAIRS,
    )


def _map_data(drawn: Map) -> dict[str, Any]:
    """Positions, and a square window around them with its ticks; the same unit on both axes."""
    low, high = drawn.positions.min(0).astype(float), drawn.positions.max(0).astype(float)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2 * 1.04, 1e-9)
    window = [(float(m - half), float(m + half)) for m in middle]
    ticks = [[float(t) for t in MaxNLocator(5).tick_values(*each) if each[0] <= t <= each[1]] for each in window]
    return {
        "title": drawn.title,
        "axes": [tight(name) for name in drawn.axes],
        "note": tight(remarks(drawn)),
        "window": window,
        "ticks": [[float(f"{t:.4g}") for t in each] for each in ticks],
        "x": [float(f"{value:.5g}") for value in drawn.positions[:, 0]],
        "y": [float(f"{value:.5g}") for value in drawn.positions[:, 1]],
    }
