"""Images with their nearest neighbours, marked right or wrong by colour and sign; and a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from sslkit.plots.figure import COLOURS
from sslkit.plots.inline import picture_uri
from sslkit.plots.pictures import enlarged
from sslkit.plots.sheet import GAP, PAPER, Tile, compose, shortened
from sslkit.plots.template import render_template

TILE = 112  # pixels, the side of a picture in its frame
FRAME, DASH = 5, 9  # pixels: the width of a frame, and the length of a dash and of the gap after it
RIGHT, WRONG = COLOURS[0], COLOURS[1]  # blue and vermilion: distinct with any colour vision
SHOWN = 20  # classes that fit a confusion matrix


@dataclass(frozen=True)
class NeighbourImage:
    """One train image near a query, with its class; ``right`` if that is the query's."""

    name: str
    picture: Image.Image  # square, RGB
    cosine: float  # of the features
    right: bool


@dataclass(frozen=True)
class QueryImage:
    """One val image by its key in the dataset, with its class and the class that k-NN predicts."""

    key: str
    name: str
    predicted: str
    right: bool  # whether the two classes are the same
    picture: Image.Image  # square, RGB
    neighbours: Sequence[NeighbourImage]  # nearest first


def framed(picture: Image.Image, right: bool) -> Image.Image:
    """The picture at tile size in a frame: blue and solid with a tick, or orange and dashed with a cross."""
    side, colour = TILE + 2 * FRAME, RIGHT if right else WRONG
    paper = Image.new("RGB", (side, side), colour if right else PAPER)
    draw = ImageDraw.Draw(paper)
    for start in range(0, side, 2 * DASH) if not right else ():
        for edge in (0, side - FRAME):
            draw.rectangle((start, edge, start + DASH - 1, edge + FRAME - 1), fill=colour)
            draw.rectangle((edge, start, edge + FRAME - 1, start + DASH - 1), fill=colour)
    paper.paste(enlarged(picture, TILE), (FRAME, FRAME))
    corner, size = side - FRAME - 20, 20
    draw.rectangle((corner, corner, corner + size, corner + size), fill=colour)
    lines = [(4, 11, 8, 15), (8, 15, 16, 5)] if right else [(5, 5, 15, 15), (5, 15, 15, 5)]
    for line in lines:
        draw.line([corner + number for number in line], fill=PAPER, width=3)
    return paper


def neighbours_sheet(queries: Sequence[QueryImage]) -> Image.Image:
    """A row per query: the query, then its neighbours in frames."""
    rows = []
    for query in queries:
        # A gap wider than a framed tile, to set the query apart.
        own = Image.new("RGB", (TILE + 2 * FRAME + GAP, TILE + 2 * FRAME), PAPER)
        own.paste(enlarged(query.picture, TILE), (0, FRAME))
        row = [Tile(shortened(query.name, TILE), own)]
        for near in query.neighbours:
            row.append(Tile(shortened(f"{near.cosine:.2f} {near.name}", TILE), framed(near.picture, near.right)))
        rows.append(row)
    return compose(rows)


def classes_shown(counts: np.ndarray, pairs: Sequence[dict[str, Any]]) -> list[int]:
    """All classes or, if there are many, the most confused ones; in order."""
    if len(counts) <= SHOWN:
        return list(range(len(counts)))
    shown: set[int] = set()
    for pair in pairs:
        if len(shown | {pair["true"], pair["predicted"]}) <= SHOWN:
            shown |= {pair["true"], pair["predicted"]}
    return sorted(shown)


def confusion_figure(counts: np.ndarray, classes: Sequence[int], names: Sequence[str]) -> Figure:
    """Confusion matrix: the share of each true class (rows) that is taken for each class (columns), in percent.

    Only ``classes`` of the (C, C) ``counts`` are drawn; shares are of all images of the true class.
    """
    share = 100 * counts[classes][:, classes] / np.maximum(counts[classes].sum(1, keepdims=True), 1)
    side = 2.6 + 0.42 * len(classes)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.pcolormesh(share, cmap="cividis", vmin=0, vmax=100, edgecolors="none")
    axes.set_aspect("equal")
    axes.invert_yaxis()
    ticks, labels = np.arange(len(classes)) + 0.5, [shortened(names[i], TILE) for i in classes]
    axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("class by k-NN")
    axes.set_ylabel("true class")
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.8)
    for row, column in np.argwhere(share >= 0.5).tolist():
        # Not pure black, which becomes the page's text colour: the background here is not the page's.
        ink = "#ffffff" if share[row, column] < 50 else "#101010"
        axes.text(column + 0.5, row + 0.5, f"{share[row, column]:.0f}", ha="center", va="center", color=ink, size=8)
    return figure


def page(title: str, about: Sequence[str], queries: Sequence[QueryImage], tab: str = "", **facts: Any) -> str:
    """The HTML of the page, with its pictures inside.

    Args:
        title: its heading, and the title of the browser tab unless ``tab`` is given.
        about: paragraphs below the heading.
        queries: in order.
        tab: title of the browser tab.
        facts: the template's ``pairs`` with class names, ``matrix`` (an SVG element) and ``matrix_title``.
    """
    rows = [
        {
            "query": each,
            "uri": picture_uri(each.picture),
            "uris": [picture_uri(near.picture) for near in each.neighbours],
        }
        for each in queries
    ]
    return render_template("neighbours.html.j2", tab=tab or title, title=title, about=about, rows=rows, **facts)


def alternative(counts: np.ndarray, pairs: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The text alternative of a confusion matrix."""
    right = 100 * np.trace(counts) / counts.sum()
    worst = "; ".join(f"{names[p['true']]} taken for {names[p['predicted']]} {p['share']:.1f} %" for p in pairs[:3])
    return (
        f"Confusion matrix of k-NN on {counts.sum()} val images, {right:.1f} % right. Most confused: {worst or 'none'}."
    )
