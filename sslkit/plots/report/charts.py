"""The figures of a report: what was logged over training, and accuracies with their intervals.

Each is an SVG for a page. A curve comes with the points whose values a reader may read off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sslkit.plots import curves
from sslkit.plots.curves import Curves, Line, Log, last_part
from sslkit.plots.figure import MARKERS, as_svg, colour, label
from sslkit.plots.panels.base import OTHERS, panel_of, panels

DESCRIBED = 6  # lines whose values the text alternative of a figure gives
NAME = 26  # letters of a run's name next to an axis


@dataclass(frozen=True)
class Chart:
    """A figure in the page."""

    name: str  # unique in the page; letters, digits and hyphens
    title: str
    note: str  # what to look for; may be empty
    svg: str
    # For the cursor that reads off values: what ``curves.frame`` returns, ``time``, ``unit`` and ``lines``.
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChartSection:
    """Charts under one heading; ``once`` are the metrics of which every run logged a single value: (name, by run)."""

    title: str
    charts: Sequence[Chart]
    once: Sequence[tuple[str, Mapping[str, float]]] = ()


@dataclass(frozen=True)
class Point:
    """One run's or experiment's measured value."""

    run: str
    number: int  # of its colour
    value: float  # the mean over seeds
    low: float | None = None  # ends of the interval; None where there is none
    high: float | None = None
    seeds: Sequence[float] = ()  # the value of each seed


def training(runs: Mapping[str, Sequence[Log]]) -> list[ChartSection]:
    """A chart for every metric that some run logged more than once, with all runs in the same axes.

    Args:
        runs: the logs of a run's seeds by the run's name; a run without training has none, and keeps its colour.
    """
    every = [rows for logs in runs.values() for rows in logs]
    bounds = {metric for panel in panels().values() for metric in (panel.bounds or {}).values()}
    keys = [key for key in curves.metrics(every) if last_part(key) not in bounds and not _repeats_loss(key, every)]
    time = curves.clock(every)
    found, number = [], 0
    for title, wanted in _sections(keys).items():
        charts, once = [], []
        for key in wanted:
            content = curves.curves_of(key, runs, time)
            if all(len(line.x) < 2 for line in content.lines):
                values = {list(runs)[line.colour]: float(line.y[0]) for line in content.lines if len(line.y)}
                once.append((heading(key)[0], values))
                continue
            number += 1
            charts.append(curve(content, time, key, f"curve-{number}", list(runs)))
        found.append(ChartSection(title, charts, once))
    return found


def _sections(keys: Sequence[str]) -> dict[str, list[str]]:
    """Keys by the section of their panel: panels in order, a metric as a whole before its objectives' parts.

    Metrics without a section keep the order in which they were logged, and come last.
    """
    sections: dict[str, list[str]] = {}
    for metric, panel in panels().items():
        if panel.section != OTHERS:
            found = sorted((key for key in keys if last_part(key) == metric), key=lambda key: "/" in key)
            sections.setdefault(panel.section, []).extend(found)
    sections[OTHERS] = [key for key in keys if panel_of(last_part(key)).section == OTHERS]
    return {title: found for title, found in sections.items() if found}


def heading(key: str) -> tuple[str, str]:
    """Caption and note of a logged metric.

    >>> heading("ibot/kl")[0], heading("loss")[0], heading("queue/age")[0]
    ('KL divergence, teacher to student: ibot', 'Loss', 'Age: queue')
    """
    part, panel = key.rpartition("/")[0], panel_of(last_part(key))
    return (f"{panel.title}: {part.replace('.', ' and ')}" if part else panel.title), panel.note


def curve(content: Curves, time: str, key: str, name: str, runs: Sequence[str]) -> Chart:
    """One metric's figure, and the points at which its reading cursor stops."""
    content = replace(content, lines=[curves.thin(line) for line in content.lines])
    figure = curves.small_figure(content, time)
    title, note = heading(key)
    svg = as_svg(figure, _described(title, content, time), name)
    lines = [{"run": line.colour, "name": runs[line.colour], **_points(line)} for line in content.lines]
    return Chart(name, title, note, svg, {**curves.frame(figure), "time": time, "unit": content.axis, "lines": lines})


def dots(title: str, unit: str, points: Sequence[Point], name: str) -> Chart:
    """A chart of accuracies: a dot for each run, its interval as a bar, its seeds as small rings."""
    figure = Figure(figsize=(4.6, 0.75 + 0.26 * max(len(points), 2)), layout="constrained")
    axes = figure.subplots()
    for row, point in enumerate(points):
        ink = colour(point.number)
        if point.low is not None and point.high is not None:
            axes.plot([point.low, point.high], [row, row], color=ink, linewidth=2, solid_capstyle="butt")
        below = [row + 0.3] * len(point.seeds)
        axes.plot(point.seeds, below, "o", color=ink, markersize=3.2, markerfacecolor="none", mew=0.8)
        axes.plot(point.value, row, MARKERS[point.number % len(MARKERS)], color=ink, markersize=6)
    axes.set_yticks(range(len(points)), [_short(point.run) for point in points])
    axes.set_ylim(len(points) - 0.4, -0.5)
    axes.margins(x=0.08)
    label(axes, unit, "")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    described = "; ".join(f"{p.run} {p.value:.1f}{_between(p)}" for p in points)
    return Chart(name, title, "", as_svg(figure, f"{title}, by run: {described}", name))


def _between(point: Point) -> str:
    return "" if point.low is None else f" ({point.low:.1f} to {point.high:.1f})"


def _short(name: str) -> str:
    """A name short enough for the axes; its end is kept, which distinguishes seeds and variants."""
    return name if len(name) <= NAME else f"{name[: NAME // 2 - 1]}…{name[-NAME // 2 :]}"


def _described(title: str, content: Curves, time: str) -> str:
    """The figure in words: where each line begins and ends."""
    parts = []
    for line in content.lines[:DESCRIBED]:
        x, y = line.x[np.isfinite(line.y)], line.y[np.isfinite(line.y)]
        if len(y):
            parts.append(f"{line.label} from {y[0]:.4g} to {y[-1]:.4g} at {time} {x[-1]:.4g}")
    if len(content.lines) > DESCRIBED:
        parts.append(f"and {len(content.lines) - DESCRIBED} more")
    bounds = "".join(f"; {name} is {value:.2f}" for name, value in content.bounds)
    return f"{title}, {content.axis}, over {time}s of training: {'; '.join(parts)}{bounds}"


def _points(line: Line) -> dict[str, list[float | None]]:
    """The points of a line for JSON, which has no NaN; 6 digits are more than a figure shows."""
    return {
        axis: [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]
        for axis, values in (("x", line.x), ("y", line.y))
    }


def _repeats_loss(key: str, logs: Sequence[Log]) -> bool:
    """Whether an objective's loss equals the whole loss wherever it was logged: its figure would be the same."""
    if not key.endswith("/loss"):
        return False
    return all(row[key] == row.get("loss") for rows in logs for row in rows if key in row)
