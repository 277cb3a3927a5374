"""Maps of features: as figures, and as a page on which every point shows its image.

Up to six classes differ in both colour and marker, up to 36 in at least one of them.
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
from sslkit.probes.inspect.embedding import TRUSTED_BY, FeatureMap

TILES = (48, 32)  # pixels, the side of a thumbnail; both multiples of 16, so that JPEG blends none with its neighbour
QUALITIES = (80, 65, 50)  # of the JPEG of thumbnails, tried in turn
BUDGET = 3_000_000  # bytes of thumbnails; a third more in the page
PAIRS = len(COLOURS) * len(MARKERS)  # classes with different pairs of colour and marker
SIZE = (6.6, 6.4)  # inches, of a figure without its legend, where both axes have the same range
FLATTEST = 0.3  # height of the points' box over its width, or the reverse, below which space is left empty
MARGIN = 0.04  # of a range, on each side
NARROWEST = 4.0  # inches of a figure: room for the legend of one long name
NAME = 40  # letters of a class name in a legend
GREY = "#7a7f8a"  # of unlabelled points
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class ClassPoints:
    """The points of one class, and how they look."""

    name: str
    points: np.ndarray  # (m,) int64, rows of the map
    colour: int | None  # number in COLOURS; None is grey
    marker: int  # number in MARKERS


@dataclass(frozen=True)
class ThumbnailSheet:
    """Thumbnails of all images in one JPEG, row by row."""

    jpeg: bytes
    tile: int  # side of a thumbnail, pixels
    columns: int


def points_by_class(labels: np.ndarray, names: Sequence[str]) -> list[ClassPoints]:
    """Points by class, in the order of the classes that occur; unlabelled points (-1) come last.

    Colour and marker depend only on the number of the class, not on which others occur.
    """
    found = []
    present: list[int] = np.unique(labels[labels >= 0]).tolist()
    for number in present:
        points = np.flatnonzero(labels == number)
        marker = (number + number // len(COLOURS)) % len(MARKERS)
        found.append(ClassPoints(names[number], points, number % len(COLOURS), marker))
    if (labels < 0).any():
        found.append(ClassPoints(UNLABELLED, np.flatnonzero(labels < 0), None, 0))
    return found


def map_figure(drawn: FeatureMap, classes: Sequence[ClassPoints]) -> Figure:
    """A scatter plot with equal units on both axes, and a legend if no two classes look the same."""
    spans = np.maximum(np.ptp(drawn.positions, axis=0), 1e-9)
    across, up = np.maximum(spans / spans.max(), FLATTEST).tolist()  # of a square
    width, height = SIZE[0] - 5 * (1 - across), SIZE[1] - 5 * (1 - up)  # the axes of a square are five inches or more
    figure = Figure(figsize=(max(width, NARROWEST), height), layout="constrained")
    axes = figure.subplots()
    axes.margins(MARGIN)
    for group in classes:
        colour = GREY if group.colour is None else COLOURS[group.colour]
        name = group.name if len(group.name) <= NAME else f"{group.name[: NAME - 1]}…"
        x, y = drawn.positions[group.points].T
        axes.scatter(x, y, s=16, c=colour, marker=MARKERS[group.marker], linewidths=0, alpha=0.8, label=name)
    axes.set_aspect("equal", adjustable="datalim")
    label(axes, *drawn.axes)
    if len(classes) <= PAIRS:
        legend(figure, [axes], columns=5)
    else:
        axes.set_title(f"{len(classes)} classes, some look the same: the page names each point", fontsize=10)
    return figure


def alternative(drawn: FeatureMap, classes: Sequence[ClassPoints]) -> str:
    """The text alternative of a map, with its numbers."""
    count = sum(len(group.points) for group in classes)
    axes = " and ".join(drawn.axes)
    return f"{drawn.title} map of {count} images of {len(classes)} classes, axes {axes}. {remarks(drawn)}"


def remarks(drawn: FeatureMap) -> str:
    """What a reader of the map should know about it."""
    trust = (
        f"Trustworthiness {drawn.trustworthiness:.3f}: 1 if the {TRUSTED_BY} nearest neighbours of every point on the "
        "map are also near it among the features, about 0.5 for a random map."
    )
    if drawn.method == "pca":
        return f"The two axes together show {sum(drawn.facts['explained']):.1f} % of the variance. {trust}"
    kind = f" (perplexity {drawn.facts['perplexity']:g})" if drawn.method == "tsne" else ""
    return f"{drawn.title}{kind} keeps neighbours together; cluster sizes and distances mean nothing. {trust}"


def thumbnail_sheet(pictures: Iterable[Image.Image]) -> ThumbnailSheet:
    """Square pictures as thumbnails in one JPEG, smaller and coarser until it fits ``BUDGET``."""
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
    return ThumbnailSheet(content, side, columns)


def page(
    title: str,
    about: Sequence[str],
    maps: Sequence[FeatureMap],
    classes: Sequence[ClassPoints],
    names: Sequence[str],
    thumbnails: ThumbnailSheet | None,
    tab: str = "",
) -> str:
    """The HTML of the page with all maps.

    Args:
        title: its heading, and the title of the browser tab unless ``tab`` is given.
        about: paragraphs below the heading.
        maps: of the same n images.
        classes: their points.
        names: (n,) names of the images.
        thumbnails: of the images, in order; None if there are no images.
        tab: title of the browser tab.
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


def _map_data(drawn: FeatureMap) -> dict[str, Any]:
    """Positions, and a square window around them with its ticks."""
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
