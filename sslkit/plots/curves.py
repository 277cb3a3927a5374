"""Logged metrics over training: axes for each metric (see ``panels/``), a line for each run, a band over its seeds."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.plots.figure import COLOURS, MARKERS, STYLES, colour, label, legend, save_png
from sslkit.plots.panels.base import Panel, panel_of

MARKED = 30  # points; a line with no more than these has a marker at each
MOST = 600  # points of a line in a page: about as many as it has pixels
SMALL = (4.6, 2.9)  # inches: a figure in a page
MARGINS = {"left": 0.185, "right": 0.98, "top": 0.94, "bottom": 0.18}  # shares of its size
WRAP, SMALL_WRAP = 38, 30  # letters of an axis name on one line, in a figure of its own and in a page
GAP = 0.15  # inches around each pair of axes: the name of an axis keeps its distance from the next one
Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """One metric of one run, or of the seeds of one experiment."""

    label: str  # in the legend
    x: np.ndarray  # (n,) epochs or steps
    y: np.ndarray  # (n,) mean over seeds; NaN where the metric was not finite
    low: np.ndarray | None = None  # (n,) smallest of the seeds; None for one run
    high: np.ndarray | None = None  # (n,) largest of them
    colour: int = 0  # number of the run
    style: int = 0  # number of the line style


@dataclass(frozen=True)
class Curves:
    """What one pair of axes shows."""

    axis: str  # the metric, with its unit
    lines: Sequence[Line]
    bounds: Sequence[tuple[str, float]] = ()  # upper bounds, drawn as dashed lines: (name, value)


def metrics(logs: Sequence[Log]) -> list[str]:
    """Every key except the clock's that has a number in one of the logs, in the order of its first appearance."""
    keys = dict.fromkeys(k for rows in logs for row in rows for k, v in row.items() if _is_number(v))
    return [key for key in keys if key not in ("epoch", "step")]


def matching(metric: str, keys: Sequence[str]) -> list[str]:
    """The key of that name, or else every key whose last part is that name.

    >>> matching("kl", ["loss", "dino/kl", "ibot/kl"]), matching("loss", ["loss", "dino/loss"])
    (['dino/kl', 'ibot/kl'], ['loss'])
    """
    return [metric] if metric in keys else [key for key in keys if last_part(key) == metric]


def clock(logs: Sequence[Log]) -> str:
    """``epoch`` where every row with numbers has it, else ``step``."""
    return "epoch" if all("epoch" in row or "skipped" in row for rows in logs for row in rows) else "step"


def curves_of(metric: str, runs: Mapping[str, Sequence[Log]], time: str) -> Curves:
    """The lines of one metric.

    Args:
        metric: a key of the logs, or the last part of several.
        runs: the logs of a run's seeds by the run's name; usually one.
        time: ``epoch`` or ``step``.

    Returns:
        A line for each run and each matching key that it logged, so none if no run logged any.
    """
    every = [rows for logs in runs.values() for rows in logs]
    keys, panel = matching(metric, metrics(every)), panel_of(last_part(metric))
    lines = []
    for number, (name, logs) in enumerate(runs.items()):
        for index, key in enumerate(keys):
            seeds = [points for points in (_points(rows, key, time) for rows in logs) if len(points[0])]
            if not seeds:
                continue
            label = name if len(logs) == 1 else f"{name} ({len(seeds)} seeds)"
            label = label if len(keys) == 1 else f"{label}: {key.rpartition('/')[0] or key}"
            # A colour for each run; the line style distinguishes its objectives, or else repeats what the colour says.
            dashes = (number if len(keys) == 1 else index) + number // len(COLOURS)
            lines.append(_over_seeds(label, seeds, number, dashes))
    return Curves(panel.axis, lines, _bounds(panel, every, keys))


def draw(contents: Sequence[Curves], time: str, path: Path) -> None:
    """Write a PNG with the axes side by side, at most three in a row.

    Args:
        contents: of each pair of axes; at least one.
        time: ``epoch`` or ``step``, named on the x axis.
        path: the file, written whole or not at all.
    """
    columns = min(len(contents), 3)
    rows = math.ceil(len(contents) / columns)
    figure = Figure(figsize=(max(4.6 * columns, 5.5), 3.6 * rows))
    figure.set_layout_engine("constrained", w_pad=GAP)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, content in zip(grid, contents, strict=False):
        _draw_axes(axes, content, f"{time}s of training", WRAP)
    for axes in grid[len(contents) :]:
        axes.remove()
    legend(figure, list(grid), max(columns, 2))
    save_png(figure, path, f"Curves over {time}s: {'; '.join(content.axis for content in contents)}")


def small_figure(content: Curves, time: str) -> Figure:
    """A figure at the size it has in a page; there the n-th line has the id ``line-n``, its seeds' range ``band-n``.

    Args:
        content: with at least one line.
        time: ``epoch`` or ``step``, named on the x axis.
    """
    # Fixed margins that fit any label: figures line up, and need no extra drawing to find out, which halves the time.
    figure = Figure(figsize=SMALL)
    axes = figure.subplots(gridspec_kw=MARGINS)
    _draw_axes(axes, content, f"{time}s of training", SMALL_WRAP)  # the page has the legend
    # A metric that hardly changes has plain ticks, not differences from a number in a corner.
    axes.ticklabel_format(useOffset=False, scilimits=(-4, 5))
    axes.yaxis.label.set(fontsize=9, verticalalignment="top")
    axes.yaxis.set_label_coords(0.005, 0.5, transform=figure.transFigure)
    return figure


def frame(figure: Figure) -> dict[str, list[float]]:
    """Where the data are in the SVG of a figure after drawing: the axes' box in its units, and the ranges of x and y.

    Returns:
        ``box`` left, top, right, bottom, from the upper left corner; ``x`` and ``y`` as left, right and bottom, top.
    """
    (axes,) = figure.axes
    width, height = (float(inches) * 72 for inches in figure.get_size_inches())
    place = axes.get_position()
    box = [place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height]
    return {"box": [round(v, 2) for v in box], "x": list(axes.get_xlim()), "y": list(axes.get_ylim())}


def thin(line: Line, most: int = MOST) -> Line:
    """The line reduced to at most ``most`` of its own points: the ends, and the lowest and highest of each stretch.

    It looks the same when drawn, and every point that can be read off is one that was logged.
    """
    if len(line.x) <= most:
        return line
    stretches = np.array_split(np.arange(len(line.x)), max(most // 2 - 1, 1))
    keep = {0, len(line.x) - 1}
    for rows in stretches:
        finite = rows[np.isfinite(line.y[rows])]
        ends = (finite[line.y[finite].argmin()], finite[line.y[finite].argmax()]) if len(finite) else rows[:1]
        keep |= set(map(int, ends))  # a gap stays a gap
    rows = np.array(sorted(keep))
    low, high = (None if band is None else band[rows] for band in (line.low, line.high))
    return replace(line, x=line.x[rows], y=line.y[rows], low=low, high=high)


def _draw_axes(axes: Axes, content: Curves, x_label: str, wrap: int) -> None:
    for number, line in enumerate(content.lines):
        ink, marker = colour(line.colour), MARKERS[line.style % len(MARKERS)] if len(line.x) <= MARKED else ""
        dashes = STYLES[line.style % len(STYLES)]
        (drawn,) = axes.plot(line.x, line.y, dashes, color=ink, label=line.label, lw=1.5, marker=marker, markersize=4)
        drawn.set_gid(f"line-{number}")
        if line.low is not None and line.high is not None:
            band = axes.fill_between(line.x, line.low, line.high, color=ink, alpha=0.2, linewidth=0)
            band.set_gid(f"band-{number}")
    moments = np.unique(np.concatenate([line.x for line in content.lines]))
    if len(moments) == 1 and moments[0] > 0:
        axes.set_xlim(0, 1.05 * moments[0])  # a single point has no range: start the axis at 0
    for name, value in content.bounds:
        # Translucent black, so that in a page it follows the text's colour.
        axes.axhline(value, color="black", alpha=0.55, linewidth=1, linestyle="--")
        axes.annotate(f"{name} = {value:.2f}", (1, value), xycoords=("axes fraction", "data"), fontsize=8,
                      ha="right", va="bottom", color="black", alpha=0.75)  # fmt: skip
    label(axes, x_label, textwrap.fill(content.axis, wrap))


def _points(rows: Log, key: str, time: str) -> tuple[np.ndarray, np.ndarray]:
    """(n,) x and (n,) y; a value logged as null, because it was not finite, is NaN and leaves a gap."""
    seen = [(row.get(time, i), row[key]) for i, row in enumerate(rows) if key in row]
    x, y = zip(*seen, strict=True) if seen else ((), ())
    return np.array(x, float), np.array([v if _is_number(v) else math.nan for v in y], float)


def _over_seeds(label: str, seeds: Sequence[tuple[np.ndarray, np.ndarray]], colour: int, style: int) -> Line:
    if len(seeds) == 1:
        return Line(label, *seeds[0], colour=colour, style=style)
    # Seeds that log at other moments are interpolated; where one has ended there is no mean.
    first, end = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    x = np.array([value for value in seeds[0][0] if first <= value <= end])
    y = np.stack([np.interp(x, *points) for points in seeds])
    return Line(label, x, y.mean(0), y.min(0), y.max(0), colour, style)


def _bounds(panel: Panel, logs: Sequence[Log], keys: Sequence[str]) -> list[tuple[str, float]]:
    """The values of a panel's bounds that were logged next to any of the keys, each once."""
    bounds = {f"{key.rpartition('/')[0]}/{end}": name for name, end in (panel.bounds or {}).items() for key in keys}
    rows = [row for log in logs for row in log]
    return sorted({(name, float(r[key])) for r in rows for key, name in bounds.items() if _is_number(r.get(key))})


def last_part(key: str) -> str:
    """The metric in a key of the log.

    >>> last_part("dino/kl"), last_part("loss")
    ('kl', 'loss')
    """
    return key.rsplit("/", 1)[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
