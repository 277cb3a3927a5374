"""Accuracy against the share of patches that were dropped, a curve for each order (arXiv:2105.10497, figure 3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sslkit.plots.figure import MARKERS, colour, label, legend, save_png, style

# A kind keeps its colour and mark whether or not the others are there.
KINDS = {
    "random": "random patches",
    "salient": "most attended first",
    "background": "least attended first",
    "object": "object first",
    "off-object": "off the object first",
}
TITLE = "Accuracy as patches are dropped"


def draw_occlusion(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], areas: Mapping[str, float], chance: float, path: Path
) -> dict[str, str]:
    """Write the figure.

    Args:
        curves: by kind, for each share a dict of share, top1 and interval (percent).
        areas: by kind the mean accuracy along its curve, percent.
        chance: accuracy of a guess, percent.
        path: of the PNG.

    Returns:
        The figure's entry among a stage's pictures.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (kind, name) in enumerate(KINDS.items()):
        if kind not in curves:
            continue
        x = [100 * row["share"] for row in curves[kind]]
        low, high = zip(*(row["interval"] for row in curves[kind]), strict=True)
        axes.plot(
            x,
            [row["top1"] for row in curves[kind]],
            style(number),
            color=colour(number),
            marker=MARKERS[number],
            markersize=4,
            linewidth=1.5,
            label=f"{name} (mean {areas[kind]:.1f} %)",
        )
        axes.fill_between(x, low, high, color=colour(number), alpha=0.12, linewidth=0)
    axes.axhline(chance, color="0.45", linewidth=1, linestyle=(0, (2, 2)), label=f"chance ({chance:.1f} %)")
    axes.set_ylim(bottom=0)
    label(axes, "patches dropped (%)", "top-1 of the linear probe (%)")
    legend(figure, [axes], 2)
    alt = _in_words(curves, areas, chance)
    save_png(figure, path, alt)
    return {"file": path.name, "title": TITLE, "alt": alt}


def _in_words(curves: Mapping[str, Sequence[Mapping[str, Any]]], areas: Mapping[str, float], chance: float) -> str:
    ends = [
        f"{name} {rows[-1]['top1']:.1f} (mean along the curve {areas[kind]:.1f})"
        for kind, name in KINDS.items()
        if (rows := curves.get(kind))
    ]
    first = curves["random"][0]["top1"]
    most = 100 * curves["random"][-1]["share"]
    return (
        f"Line chart: top-1 of the linear probe in percent by the share of patches dropped. Intact {first:.1f}; with "
        f"{most:.0f} % dropped: {', '.join(ends)}. Chance is {chance:.1f}."
    )
