"""The health of a representation as figures: how far each head looks, how sharply, and features over training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.plots.figure import COLOURS, MARKERS, label, legend, save_png

SPREAD = 0.4  # of a layer's width, over which its heads lie side by side
PANELS = {
    "rankme": "RankMe",
    "alignment": "alignment (lower is closer)",
    "uniformity": "uniformity (lower is more even)",
    "feature_std": "feature std (1 fills the sphere)",
}
Picture = dict[str, str]


def draw_distance(per_head: Sequence[Sequence[float]], uniform: float, path: Path) -> Picture:
    """Write mean attention distance by layer, a dot for each head (arXiv:2010.11929, figure 7).

    Args:
        per_head: (L, H), pixels.
        uniform: the distance of attention that is the same everywhere, pixels.
        path: of the PNG.

    Returns:
        The figure's entry among a stage's pictures.
    """
    words = ("mean attention distance", "pixels", f"attention to all alike ({uniform:.1f})")
    return _by_layer(np.array(per_head), uniform, words, "How far each head looks", path)


def draw_entropy(per_head: Sequence[Sequence[float]], ceiling: float, path: Path) -> Picture:
    """Write the entropy of attention by layer, a dot for each head.

    Args:
        per_head: (L, H), nats.
        ceiling: ln N, nats.
        path: of the PNG.

    Returns:
        The figure's entry among a stage's pictures.
    """
    words = ("entropy of attention", "nats", f"ln N = {ceiling:.2f}, attention to all alike")
    return _by_layer(np.array(per_head), ceiling, words, "How sharply each head looks", path)


def _by_layer(values: np.ndarray, reference: float, words: tuple[str, str, str], title: str, path: Path) -> Picture:
    name, unit, limit = words
    layers, heads = values.shape
    figure = Figure(figsize=(max(5.6, 1.6 + 0.42 * layers), 4.2), layout="constrained")
    axes = figure.subplots()
    x = np.arange(1, layers + 1)
    beside = np.linspace(-SPREAD / 2, SPREAD / 2, heads) if heads > 1 else np.zeros(1)
    axes.plot(x, values.mean(1), color=COLOURS[1], linewidth=1.5, label="mean of the heads", zorder=2)
    for head in range(heads):
        name_once = "head" if head == 0 else None
        axes.plot(x + beside[head], values[:, head], MARKERS[0], color=COLOURS[0], alpha=0.8, markersize=5,
                  markeredgewidth=0, label=name_once)  # fmt: skip
    axes.axhline(reference, color="0.45", linewidth=1, linestyle="--", label=limit)
    axes.set_ylim(0, max(reference, float(values.max())) * 1.06)
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
    """Write four panels over training.

    Args:
        rows: epoch, rankme, alignment, uniformity and feature_std; None where features were not finite.
        images: how many were looked at.
        path: of the PNG.

    Returns:
        The figure's entry among a stage's pictures.
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
    # From 0, which is collapse (but for RankMe, where 1 is): small changes shall look small.
    low, high = min([0.0, *filter(np.isfinite, y)]), max([0.0, *filter(np.isfinite, y)])
    if low < high:
        axes.set_ylim(1.08 * low, 1.08 * high)
    label(axes, "epochs of training", name)


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2f}"
