"""The figures of a report: what was logged over training, and accuracies with their intervals.

Each is an SVG for a page. A curve comes with the points that a reader may ask it for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sslkit.plots import curves
from sslkit.plots.curves import Line, Log, Panel
from sslkit.plots.figure import MARKERS, as_svg, colour, label

# Heading -> last parts of the metrics below it, in order. What is named nowhere comes last.
GROUPS = {
    "Losses": ("loss",),
    "Targets and collapse": (
        "teacher_entropy",
        "kl",
        "marginal_entropy",
        "prototypes_in_use",
        "feature_std",
        "effective_rank",
        "center_norm",
    ),
    "Accuracy while it trains": ("knn", "accuracy"),
    "Optimisation": ("lr", "weight_decay", "momentum", "gradient_norm", "encoder_gradient", "cosine"),
    "Speed": ("images_per_second", "data_wait"),
}
REST = "More that was logged"
# Metric -> what its figure is called, and what to look for in it.
TITLES = {
    "loss": ("Loss", ""),
    "teacher_entropy": ("Entropy of the teacher", "To 0: one prototype for all images. To ln K: uniform targets."),
    "kl": ("KL divergence, teacher to student", "To 0: the targets carry no information any more."),
    "marginal_entropy": ("Entropy of the mean target", "Low: few prototypes serve all images."),
    "prototypes_in_use": ("Prototypes in use", ""),
    "feature_std": ("Spread of features", "1: spread evenly over all directions. To 0: collapse."),
    "effective_rank": ("Effective rank", "Dimensions that the features fill."),
    "center_norm": ("Norm of the centre", ""),
    "knn": ("k-NN while it trains", "On a held-out part of train, never on val."),
    "accuracy": ("Accuracy of the training task", ""),
    "lr": ("Learning rate", ""),
    "weight_decay": ("Weight decay", ""),
    "momentum": ("Momentum of the teacher", ""),
    "gradient_norm": ("Gradient norm", ""),
    "encoder_gradient": ("Gradient on the encoder", ""),
    "cosine": ("Cosine between gradients", "Below 0: the objectives pull in different directions."),
    "images_per_second": ("Images per second", ""),
    "data_wait": ("Waiting for data", "Near 0: data come as fast as they are used."),
    "masked_on_object": ("Masked tokens on the object", ""),
    "tokens_on_object": ("All tokens on the object", ""),
}
TOLD = 6  # lines whose figures a text alternative tells
NAME = 26  # letters of a run's name beside an axis


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        name: its own in the page; letters, digits and hyphens.
        title: its caption.
        note: what to look for; may be empty.
        svg: the element.
        data: what a reading cursor needs: ``frame``'s, ``time``, ``unit`` and ``lines``; None where there is none.
    """

    name: str
    title: str
    note: str
    svg: str
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Group:
    """Charts under one heading; ``once`` are metrics of which every run logged a single value: (name, by run)."""

    title: str
    charts: Sequence[Chart]
    once: Sequence[tuple[str, Mapping[str, float]]] = ()


@dataclass(frozen=True)
class Point:
    """One run's or experiment's measured value.

    Attributes:
        run: its name.
        number: of its colour.
        value: as measured, or the mean over seeds.
        low: lower end of the interval; None where there is none.
        high: upper end.
        seeds: the seeds one by one.
    """

    run: str
    number: int
    value: float
    low: float | None = None
    high: float | None = None
    seeds: Sequence[float] = ()


def training(runs: Mapping[str, Sequence[Log]]) -> list[Group]:
    """A chart for every metric that some run logged more than once, all runs in the same axes.

    Args:
        runs: by name the logs of a run's seeds; a run that did not train has none, and keeps its colour.
    """
    every = [rows for logs in runs.values() for rows in logs]
    keys = [key for key in curves.metrics(every) if _last(key) != "ln_k" and not _repeats_loss(key, every)]
    time = curves.clock(every)
    named = {metric for metrics in GROUPS.values() for metric in metrics}
    groups, number = [], 0
    for title, metrics in {**GROUPS, REST: [k for k in keys if _last(k) not in named]}.items():
        wanted = [k for k in keys if k in metrics] if title == REST else _of(keys, metrics)
        charts, once = [], []
        for key in wanted:
            panel = curves.panel(key, runs, time)
            if all(len(line.x) < 2 for line in panel.lines):
                names = list(runs)
                once.append(
                    (heading(key)[0], {names[line.colour]: float(line.y[0]) for line in panel.lines if len(line.y)})
                )
                continue
            number += 1
            charts.append(curve(panel, time, key, f"curve-{number}", list(runs)))
        if charts or once:
            groups.append(Group(title, charts, once))
    return groups


def heading(key: str) -> tuple[str, str]:
    """Caption and note of a logged metric.

    >>> heading("ibot/kl")[0], heading("loss")[0], heading("queue/age")[0]
    ('KL divergence, teacher to student: ibot', 'Loss', 'Age: queue')
    """
    part, metric = key.rpartition("/")[0], _last(key)
    title, note = TITLES.get(metric, (metric.replace("_", " ").capitalize(), ""))
    return (f"{title}: {part.replace('.', ' and ')}" if part else title), note


def curve(panel: Panel, time: str, key: str, name: str, runs: Sequence[str]) -> Chart:
    """One metric's figure, and the points that its reading cursor stops at."""
    panel = Panel(panel.label, [curves.thin(line) for line in panel.lines], panel.ceilings)
    figure = curves.small_figure(panel, time)
    title, note = heading(key)
    svg = as_svg(figure, _told(title, panel, time), name)
    lines = [{"run": line.colour, "name": runs[line.colour], **_points(line)} for line in panel.lines]
    return Chart(name, title, note, svg, {**curves.frame(figure), "time": time, "unit": panel.label, "lines": lines})


def dots(title: str, unit: str, points: Sequence[Point], name: str) -> Chart:
    """Accuracies beside each other: a dot for each run, its interval as a bar, its seeds as small rings."""
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
    told = "; ".join(f"{p.run} {p.value:.1f}{_between(p)}" for p in points)
    return Chart(name, title, "", as_svg(figure, f"{title}, by run: {told}", name))


def _between(point: Point) -> str:
    return "" if point.low is None else f" ({point.low:.1f} to {point.high:.1f})"


def _short(name: str) -> str:
    """A name that leaves room for the axes; its end tells seeds and variants apart."""
    return name if len(name) <= NAME else f"{name[: NAME // 2 - 1]}…{name[-NAME // 2 :]}"


def _told(title: str, panel: Panel, time: str) -> str:
    """The figure in words: where each line begins and ends."""
    parts = []
    for line in panel.lines[:TOLD]:
        x, y = line.x[np.isfinite(line.y)], line.y[np.isfinite(line.y)]
        if len(y):
            parts.append(f"{line.label} from {y[0]:.4g} to {y[-1]:.4g} at {time} {x[-1]:.4g}")
    if len(panel.lines) > TOLD:
        parts.append(f"and {len(panel.lines) - TOLD} more")
    bounds = "".join(f"; ln K is {value:.2f}" for value in panel.ceilings)
    return f"{title}, {panel.label}, over {time}s of training: {'; '.join(parts)}{bounds}"


def _points(line: Line) -> dict[str, list[float | None]]:
    """The line for JSON, which has no NaN; 6 digits are more than a figure shows."""
    return {
        axis: [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]
        for axis, values in (("x", line.x), ("y", line.y))
    }


def _of(keys: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The keys of these metrics, in their order; the whole before its parts."""
    return [key for metric in metrics for key in sorted(keys, key=lambda k: "/" in k) if _last(key) == metric]


def _repeats_loss(key: str, logs: Sequence[Log]) -> bool:
    """Whether an objective's loss is the whole loss wherever it was logged: its figure would be the same."""
    if not key.endswith("/loss"):
        return False
    return all(row[key] == row.get("loss") for rows in logs for row in rows if key in row)


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]
