"""The slider of a page of masks: it moves the share of the mass that they hold, without asking anyone.

Nothing is computed in the browser. ``attention.first_percent`` says from which whole percent on each patch belongs to
the mask, so that a mask at p percent is ``steps <= p``: the rule, its ties and its rounding stay those of Python.
"""

import base64
import html

from sslkit.plots.attention import SHADE, STRENGTH
from sslkit.plots.sheet import Tile

STYLE = """
.mass { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1rem;
  margin: 1rem 0 0; padding: .5rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }
.mass[hidden] { display: none; }
.mass:not([hidden]) + section { border-top: 0; margin-top: 0; }
.mass input { flex: 1 1 14rem; min-height: 1.75rem; accent-color: var(--accent); }
.mass output { min-width: 3.5em; text-align: right; font-variant-numeric: tabular-nums; }
canvas { display: block; width: 100%; height: auto; }
@media print { .mass { position: static; } .mass input { display: none; } }
""".strip()

SCRIPT = """
"use strict";
(() => {
  const slider = document.getElementById("mass"), told = document.getElementById("mass-told");
  const figures = Array.from(document.querySelectorAll("figure[data-steps]"), figure => ({
    node: figure,
    steps: Uint8Array.from(atob(figure.dataset.steps), letter => letter.charCodeAt(0)),
    columns: Number(figure.dataset.columns),
    photo: "overPhoto" in figure.dataset ? figure.closest("section").querySelector("img") : null,
    image: figure.querySelector("img"),
    caption: figure.querySelector("figcaption"),
    title: figure.querySelector("figcaption").textContent,
  }));
  function replace(figure) {
    const canvas = document.createElement("canvas");
    canvas.width = figure.image.width = figure.image.naturalWidth;
    canvas.height = figure.image.height = figure.image.naturalHeight;
    canvas.setAttribute("role", "img");
    figure.image.replaceWith(canvas);
    return canvas;
  }
  function draw(figure, percent) {
    const canvas = figure.canvas ??= replace(figure), pen = canvas.getContext("2d");
    const { steps, columns } = figure, rows = steps.length / columns;
    // A pixel shows the patch that its middle lies in.
    const edge = (patch, patches, pixels) => Math.ceil(patch * pixels / patches - 0.5);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (figure.photo) pen.drawImage(figure.photo, 0, 0, canvas.width, canvas.height);
    pen.fillStyle = figure.photo ? "SHADE" : "#000";
    let kept = 0;
    steps.forEach((step, patch) => {
      if (step <= percent) { kept += 1; return; }
      const column = patch % columns, row = (patch - column) / columns;
      const left = edge(column, columns, canvas.width), top = edge(row, rows, canvas.height);
      pen.fillRect(left, top, edge(column + 1, columns, canvas.width) - left, edge(row + 1, rows, canvas.height) - top);
    });
    const patches = `${kept} of ${steps.length} patches`;
    figure.caption.textContent = `${figure.title.replace(/[0-9.]+ %/, percent + " %")}, ${patches}`;
    canvas.setAttribute("aria-label", `${figure.image.alt.replace(/[0-9.]+ %(?!.* %)/, percent + " %")}, ${patches}`);
  }
  slider.addEventListener("input", () => {
    const percent = Number(slider.value);
    told.textContent = `${percent} %`;
    slider.setAttribute("aria-valuetext", `${percent} percent of the mass`);
    figures.forEach(figure => draw(figure, percent));
  });
  document.querySelector(".mass").hidden = false;
})();
""".strip().replace("SHADE", f"rgba({SHADE[0]}, {SHADE[1]}, {SHADE[2]}, {STRENGTH})")


def control(keep: float, shown: str) -> str:
    """The slider as HTML; it stays hidden where scripts do not run.

    Args:
        keep: share of the mass in the pictures as they are drawn.
        shown: the same in words.
    """
    percent = min(max(round(100 * keep), 1), 100)
    return (
        '<div class="mass" hidden><label for="mass">Share of the mass in the masks</label>'
        f'<input id="mass" type="range" min="1" max="100" step="1" value="{percent}" autocomplete="off" '
        f'aria-valuetext="{percent} percent of the mass">'
        f'<output id="mass-told" for="mass">{html.escape(shown)}</output></div>'
    )


def attributes(tile: Tile) -> str:
    """What the script reads of a figure; empty for a picture that does not move."""
    if tile.steps is None:
        return ""
    steps = base64.b64encode(tile.steps.contiguous().cpu().numpy().tobytes()).decode()
    photo = " data-over-photo" if tile.over_photo else ""
    return f' data-steps="{steps}" data-columns="{tile.steps.shape[1]}"{photo}'
