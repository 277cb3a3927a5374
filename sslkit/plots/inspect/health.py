"""Figures of the health of a representation: attention by head, and features over training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.plots.figure import COLOURS, MARKERS, label, legend, save_png

SPREAD = 0.4  # of a layer's width, over which the dots of its heads are spread
# By measure: title, name, unit, and what the dashed line is.
HEADS = {
    "distance": ("How far each head looks", "mean attention distance", "pixels", "uniform attention ({:.1f})"),
    "entropy": ("How sharply each head looks", "entropy of attention", "nats", "uniform attention (ln N = {:.2f})"),
}
PANELS = {
    "rankme": "RankMe",
    "alignment": "alignment (lower is closer)",
    "uniformity": "uniformity (lower is more even)",
    "feature_std": "feature std (1 fills the sphere)",
}
Picture = dict[str, str]


def draw_heads(measure: str, per_head: Sequence[Sequence[float]], uniform: float, path: Path) -> Picture:
    """Write a measure of attention by layer, a dot for each head (arXiv:2010.11929, figure 7).

    Args:
        measure: a key of ``HEADS``.
        per_head: (L, H).
        uniform: the measure of attention that is the same everywhere.
        path: of the PNG.

    Returns:
        The figure's entry among a stage's pictures.
    """
    title, name, unit, limit = HEADS[measure]
    limit, values = limit.format(uniform), np.array(per_head)
    layers, heads = values.shape
    figure = Figure(figsize=(max(5.6, 1.6 + 0.42 * layers), 3.8), layout="constrained")
    axes = figure.subplots()
    x = np.arange(1, layers + 1)
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, heads) if heads > 1 else np.zeros(1)
    axes.plot(x, values.mean(1), color=COLOURS[1], linewidth=1.5, label="mean of the heads", zorder=2)
    for head in range(heads):
        axes.plot(x + offsets[head], values[:, head], MARKERS[0], color=COLOURS[0], alpha=0.8, markersize=5,
                  markeredgewidth=0, label="head" if head == 0 else None)  # fmt: skip
    axes.axhline(uniform, color="0.45", linewidth=1, linestyle="--", label=limit)
    axes.set_ylim(0, max(uniform, float(values.max())) * 1.06)
    axes.set_xlim(0.5, layers + 0.5)
    axes.set_xticks(x if layers <= 16 else x[1::2])
    label(axes, "layer", f"{name} ({unit})")
    legend(figure, [axes], 2)
    ends = "; ".join(
        f"layer {layer}: {row.min():.2f} to {row.max():.2f}, mean {row.mean():.2f}"
        for layer, row in zip(x.tolist(), values, strict=True)
    )
    alt = f"Dots by layer, {heads} heads each: {name} in {unit}. {ends}. Dashed line: {limit}."
    save_png(figure, path, alt)
    return {"file": path.name, "title": title, "alt": alt}


def draw_timeline(rows: Sequence[Mapping[str, Any]], images: int, path: Path) -> Picture:
    """Write four panels over training; returns the figure's entry among a stage's pictures.

    Args:
        rows: epoch, rankme, alignment, uniformity and feature_std; None where features were not finite.
        images: how many were measured.
        path: of the PNG.
    """
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    for axes, (number, (key, name)) in zip(figure.subplots(2, 2).flat, enumerate(PANELS.items()), strict=True):
        _panel(axes, rows, key, name, number)
    first, last = rows[0], rows[-1]
    changes = ", ".join(f"{key} {_shown(first[key])} to {_shown(last[key])}" for key in PANELS)
    alt = (
        f"Four line charts over {len(rows)} encoders kept from epoch {first['epoch']:g} to {last['epoch']:g}, on "
        f"{images} images: {changes}."
    )
    save_png(figure, path, alt)
    return {"file": path.name, "title": "The representation over training", "alt": alt}


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, name: str, number: int) -> None:
    y = [np.nan if row[key] is None else row[key] for row in rows]
    axes.plot([row["epoch"] for row in rows], y, color=COLOURS[number], marker=MARKERS[number], markersize=4)
    # From 0, which is collapse (1 for RankMe), so that small changes look small.
    low, high = min([0.0, *filter(np.isfinite, y)]), max([0.0, *filter(np.isfinite, y)])
    if low < high:
        axes.set_ylim(1.08 * low, 1.08 * high)
    label(axes, "epochs of training", name)


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2f}"
