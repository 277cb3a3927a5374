"""Curves of a training run: the loss, the two signs of collapse, and k-NN accuracy."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslkit.files import atomic

# Okabe and Ito's palette: told apart with any colour vision. Line styles tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")


def draw_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG of three panels from the rows of ``metrics.jsonl``.

    Args:
        rows: one dict per log line. ``loss`` and every key that ends in ``/loss`` or ``_loss`` go to the first panel;
            keys that end in ``teacher_entropy``, ``marginal_entropy`` or ``kl`` to the second, with ln K marked where
            a row holds ``.../ln_k`` or ``.../prototypes``; ``knn`` to the third. Rows may lack any of them.
        path: where the PNG goes, whole or not at all.
    """
    keys = list(dict.fromkeys(key for row in rows for key, value in row.items() if _is_number(value)))
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, collapse, knn = figure.subplots(1, 3)
    _panel(loss, rows, [k for k in keys if k == "loss" or k.endswith(("/loss", "_loss"))], "loss")
    watched = [k for k in keys if k.endswith(("teacher_entropy", "marginal_entropy")) or _last(k) == "kl"]
    _panel(collapse, rows, watched, "entropy and KL (nats)")
    for name, value in _ceilings(rows).items():
        collapse.axhline(value, color="0.45", linewidth=1, linestyle=(0, (1, 2)))
        collapse.annotate(f"{name} = {value:.2f}", (1, value), xycoords=("axes fraction", "data"), fontsize=8,
                          ha="right", va="bottom", color="0.3")  # fmt: skip
    _panel(knn, rows, [k for k in keys if _last(k).startswith("knn")], "k-NN top-1 on held-out train (%)", marker="o")
    with atomic(path) as handle:
        figure.savefig(handle, format="png", dpi=110)


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], keys: Sequence[str], label: str, marker: str = "") -> None:
    clock = "step" if any("step" in row for row in rows) else "epoch"
    for index, key in enumerate(keys):
        points = [(row.get(clock, i), row[key]) for i, row in enumerate(rows) if _is_number(row.get(key))]
        axes.plot(*zip(*points, strict=True), label=key, color=COLOURS[index % len(COLOURS)], linewidth=1.5,
                  linestyle=STYLES[index % len(STYLES)], marker=marker, markersize=4)  # fmt: skip
    axes.set_xlabel(f"{clock}s of training")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if keys:
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.4")


def _ceilings(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The ceiling of an entropy over K prototypes, by name, from whatever names K or ln K in the rows."""
    found: dict[str, float] = {}
    for row in rows:
        for key, value in row.items():
            if not _is_number(value) or value <= 0:
                continue
            if _last(key) in ("ln_k", "ln_prototypes"):
                found["ln K"] = float(value)
            elif _last(key) in ("prototypes", "K"):
                found["ln K"] = math.log(value)
    return found


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
