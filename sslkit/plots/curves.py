"""Logged metrics over training: a panel for each metric, a line for each run or a band over its seeds.

Two panels make the figure of collapse (arXiv:2104.14294, figure 7): the entropy h of the teacher's targets and
KL(teacher || student). KL -> 0 is collapse, with h -> 0 to one prototype and with h -> ln K to uniform targets.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.files import atomic
from sslkit.plots.figure import COLOURS, MARKERS, STYLES, colour, label, legend

FEW = 30  # points; a line with no more shows each of them
MOST = 600  # points of a line in a page: as many as it has pixels
SMALL = (4.6, 2.9)  # inches: a figure of a page
MARGINS = {"left": 0.185, "right": 0.98, "top": 0.94, "bottom": 0.18}  # shares of it
WRAP = 30  # letters of an axis name on one line of a small figure
AXES = {
    "teacher_entropy": "teacher entropy h (nats)",
    "marginal_entropy": "entropy of the mean target (nats)",
    "kl": "KL(teacher || student) (nats)",
    "loss": "loss",
    "prototypes_in_use": "prototypes in use (count)",
    "center_norm": "norm of the centre (L2)",
    "effective_rank": "effective rank (dimensions)",
    "gradient_norm": "gradient norm before clipping (L2)",
    "encoder_gradient": "gradient norm on the encoder (L2)",
    "cosine": "cosine between gradients",
    "momentum": "momentum of the teacher",
    "weight_decay": "weight decay",
    "images_per_second": "images per second",
    "accuracy": "accuracy of the training task (share)",
    "masked_on_object": "masked tokens on the object (share)",
    "tokens_on_object": "all tokens on the object (share)",
    "knn": "k-NN top-1 on held-out train (%)",
    "feature_std": "std of normalised features, times sqrt(D)",
    "lr": "learning rate",
    "data_wait": "share of time waiting for data",
}
Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """One metric of one run, or of one run's seeds.

    Attributes:
        label: what the legend says.
        x: (n,) epochs or steps.
        y: (n,), NaN where the metric was not finite; over seeds their mean.
        low: (n,) smallest of the seeds; None for one run.
        high: (n,) largest of them.
        colour: number of the run.
        style: number of the line style.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: int = 0
    style: int = 0


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        label: the metric, with its unit.
        lines: drawn in this order.
        ceilings: values of ln K, marked as dashed lines.
    """

    label: str
    lines: Sequence[Line]
    ceilings: Sequence[float] = field(default=())


def metrics(logs: Sequence[Log]) -> list[str]:
    """Every key but the clock's with a number in one of the logs, in the order of its first appearance."""
    keys = dict.fromkeys(k for rows in logs for row in rows for k, v in row.items() if _is_number(v))
    return [key for key in keys if key not in ("epoch", "step")]


def matching(metric: str, keys: Sequence[str]) -> list[str]:
    """The key that is called so, else all whose last part is.

    >>> matching("kl", ["loss", "dino/kl", "ibot/kl"]), matching("loss", ["loss", "dino/loss"])
    (['dino/kl', 'ibot/kl'], ['loss'])
    """
    return [metric] if metric in keys else [key for key in keys if _last(key) == metric]


def clock(logs: Sequence[Log]) -> str:
    """``epoch`` where every row with a number tells it, else ``step``."""
    return "epoch" if all("epoch" in row or "skipped" in row for rows in logs for row in rows) else "step"


def panel(metric: str, runs: Mapping[str, Sequence[Log]], time: str) -> Panel:
    """What one metric's axes show.

    Args:
        metric: a key of the logs, or the last part of some.
        runs: by label the logs of a run's seeds; most often one.
        time: ``epoch`` or ``step``.

    Returns:
        A line for each run and each matching key it logged, so none when no run logged any.
    """
    keys = matching(metric, metrics([rows for logs in runs.values() for rows in logs]))
    lines = []
    for number, (name, logs) in enumerate(runs.items()):
        for index, key in enumerate(keys):
            seeds = [points for points in (_points(rows, key, time) for rows in logs) if len(points[0])]
            if not seeds:
                continue
            label = name if len(logs) == 1 else f"{name} ({len(seeds)} seeds)"
            label = label if len(keys) == 1 else f"{label}: {key.rpartition('/')[0] or key}"
            # A colour for each run; the style tells its objectives apart, or else supports the colour.
            dashes = number + number // len(COLOURS) if len(keys) == 1 else index + number // len(COLOURS)
            lines.append(_over_seeds(label, seeds, number, dashes))
    ceilings = _ceilings([rows for logs in runs.values() for rows in logs], keys)
    return Panel(AXES.get(_last(metric), _last(metric).replace("_", " ")), lines, ceilings)


def draw(panels: Sequence[Panel], time: str, path: Path) -> None:
    """Write the panels side by side, at most three in a row, as a PNG.

    Args:
        panels: at least one.
        time: ``epoch`` or ``step``, named on the x axis.
        path: where it goes, whole or not at all.
    """
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(4.6 * columns, 5.5), 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, content in zip(grid, panels, strict=False):
        _draw_panel(axes, content, f"{time}s of training")
    for axes in grid[len(panels) :]:
        axes.remove()
    legend(figure, list(grid), max(columns, 2))
    with atomic(path) as handle:
        figure.savefig(handle, format="png", dpi=130)


def small_figure(content: Panel, time: str) -> Figure:
    """One panel at the size it has in a page; the n-th line is named ``line-n`` there, its seeds' range ``band-n``.

    Args:
        content: with at least one line.
        time: ``epoch`` or ``step``, named on the x axis.
    """
    # Margins that hold any of the labels: figures line up, and need no drawing to find out, which halves the time.
    figure = Figure(figsize=SMALL)
    axes = figure.subplots(gridspec_kw=MARGINS)
    # The legend stands in the page.
    _draw_panel(axes, replace(content, label=textwrap.fill(content.label, WRAP)), f"{time}s of training")
    # A metric that stays as it is has ticks of its own size, not differences from a number in a corner.
    axes.ticklabel_format(useOffset=False, scilimits=(-4, 5))
    axes.yaxis.label.set(fontsize=9, verticalalignment="top")
    axes.yaxis.set_label_coords(0.005, 0.5, transform=figure.transFigure)
    return figure


def frame(figure: Figure) -> dict[str, list[float]]:
    """Where the data lie in the SVG of a figure that was drawn: the axes' box in its units, and what x and y span.

    Returns:
        ``box`` left, top, right, bottom, from the upper left corner; ``x`` and ``y`` as left, right and bottom, top.
    """
    (axes,) = figure.axes
    width, height = (float(inches) * 72 for inches in figure.get_size_inches())
    place = axes.get_position()
    box = [place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height]
    return {"box": [round(v, 2) for v in box], "x": list(axes.get_xlim()), "y": list(axes.get_ylim())}


def thin(line: Line, most: int = MOST) -> Line:
    """The line by at most so many of its own points: the ends, and of each stretch the lowest and the highest.

    What is drawn then looks as before, and each point that can be read off is one that was logged.
    """
    if len(line.x) <= most:
        return line
    stretches = np.array_split(np.arange(len(line.x)), max(most // 2 - 1, 1))
    keep = {0, len(line.x) - 1}
    for rows in stretches:
        finite = rows[np.isfinite(line.y[rows])]
        keep |= {int(finite[line.y[finite].argmin()]), int(finite[line.y[finite].argmax()])} if len(finite) else {
            int(rows[0])  # a gap stays a gap
        }  # fmt: skip
    rows = np.array(sorted(keep))
    low, high = (None if band is None else band[rows] for band in (line.low, line.high))
    return replace(line, x=line.x[rows], y=line.y[rows], low=low, high=high)


def _draw_panel(axes: Axes, content: Panel, x_label: str) -> None:
    for number, line in enumerate(content.lines):
        ink, marker = colour(line.colour), MARKERS[line.style % len(MARKERS)] if len(line.x) <= FEW else ""
        dashes = STYLES[line.style % len(STYLES)]
        (drawn,) = axes.plot(line.x, line.y, dashes, color=ink, label=line.label, lw=1.5, marker=marker, markersize=4)
        drawn.set_gid(f"line-{number}")
        if line.low is not None and line.high is not None:
            band = axes.fill_between(line.x, line.low, line.high, color=ink, alpha=0.2, linewidth=0)
            band.set_gid(f"band-{number}")
    moments = np.unique(np.concatenate([line.x for line in content.lines]))
    if len(moments) == 1 and moments[0] > 0:
        axes.set_xlim(0, 1.05 * moments[0])  # one point alone has no scale but that from the start
    for value in content.ceilings:
        # Black, thinned, so that in a page it follows the text's colour.
        axes.axhline(value, color="black", alpha=0.55, linewidth=1, linestyle="--")
        axes.annotate(f"ln K = {value:.2f}", (1, value), xycoords=("axes fraction", "data"), fontsize=8,
                      ha="right", va="bottom", color="black", alpha=0.75)  # fmt: skip
    label(axes, x_label, content.label)


def _points(rows: Log, key: str, time: str) -> tuple[np.ndarray, np.ndarray]:
    """(n,) x and (n,) y; what was logged as null, because it was not finite, is NaN and leaves a gap."""
    seen = [(row.get(time, i), row[key]) for i, row in enumerate(rows) if key in row]
    x, y = zip(*seen, strict=True) if seen else ((), ())
    return np.array(x, float), np.array([v if _is_number(v) else math.nan for v in y], float)


def _over_seeds(label: str, seeds: Sequence[tuple[np.ndarray, np.ndarray]], colour: int, style: int) -> Line:
    if len(seeds) == 1:
        return Line(label, *seeds[0], colour=colour, style=style)
    # Seeds that log at other moments are read off between them; where one has ended there is no mean.
    first, end = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    x = np.array([value for value in seeds[0][0] if first <= value <= end])
    y = np.stack([np.interp(x, *points) for points in seeds])
    return Line(label, x, y.mean(0), y.min(0), y.max(0), colour, style)


def _ceilings(logs: Sequence[Log], keys: Sequence[str]) -> list[float]:
    """Each ln K that bounds one of these entropies; none for other metrics."""
    bounds = {f"{key.rpartition('/')[0]}/ln_k" for key in keys if _last(key).endswith("_entropy")}
    return sorted({float(row[key]) for rows in logs for row in rows for key in bounds if _is_number(row.get(key))})


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
