"""Accuracy against the share of patches that were dropped, a curve for each order (arXiv:2105.10497, figure 3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sslkit.plots.figure import MARKERS, colour, label, legend, save_png, style

# A kind's colour and marker do not depend on which others are drawn.
KINDS = {
    "random": "random patches",
    "salient": "most attended first",
    "background": "least attended first",
    "object": "object first",
    "off-object": "off the object first",
}


def draw_occlusion(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], areas: Mapping[str, float], chance: float, path: Path
) -> dict[str, str]:
    """Write the figure; returns its entry among a stage's pictures.

    Args:
        curves: by kind, for each share a dict of share, top1 and interval (percent).
        areas: by kind the mean accuracy along its curve, percent.
        chance: accuracy of a guess, percent.
        path: of the PNG.
    """
    figure = Figure(figsize=(6.4, 4.1), layout="constrained")
    axes = figure.subplots()
    for number, (kind, name) in enumerate(KINDS.items()):
        if kind not in curves:
            continue
        x = [100 * row["share"] for row in curves[kind]]
        low, high = zip(*(row["interval"] for row in curves[kind]), strict=True)
        top1, title = [row["top1"] for row in curves[kind]], f"{name} (mean {areas[kind]:.1f} %)"
        axes.plot(x, top1, style(number), color=colour(number), marker=MARKERS[number], markersize=4, label=title)
        axes.fill_between(x, low, high, color=colour(number), alpha=0.12, linewidth=0)
    axes.axhline(chance, color="0.45", linewidth=1, linestyle=(0, (2, 2)), label=f"chance ({chance:.1f} %)")
    axes.set_ylim(bottom=0)
    label(axes, "patches dropped (%)", "top-1 of the linear probe (%)")
    legend(figure, [axes], 2)
    ends = [
        f"{name} {rows[-1]['top1']:.1f} (mean along the curve {areas[kind]:.1f})"
        for kind, name in KINDS.items()
        if (rows := curves.get(kind))
    ]
    first, last = curves["random"][0], curves["random"][-1]
    alt = (
        "Line chart: top-1 of the linear probe in percent by the share of patches dropped. Intact "
        f"{first['top1']:.1f}; with {100 * last['share']:.0f} % dropped: {', '.join(ends)}. Chance is {chance:.1f}."
    )
    save_png(figure, path, alt)
    return {"file": path.name, "title": "Accuracy as patches are dropped", "alt": alt}
