"""Photos next to the object that each encoder finds, and a chart of the scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sslkit.plots.figure import COLOURS, MARKERS, label, legend, save_png
from sslkit.plots.pictures import bounded, fit, shade, stencil, to_picture
from sslkit.plots.sheet import Tile, compose, heading_tile, save_sheet
from sslkit.probes.segmentation.photos import Photos
from sslkit.probes.segmentation.protocols import CHOICES, FoundObjects

EXAMPLES = 6
PERCENT = "percent: Jaccard index of the object found, against the photo's mask"
TILE = 128  # pixels, the longer side of a picture
VOID_GREY = 128
NAMES = {
    "best_head": "best head",
    "fixed_head": "fixed head",
    "lowest_entropy": "lowest-entropy head",
    "mean_of_heads": "mean of heads",
}
BY_CLASS = "_by_class"  # scores of whole classes, where the others are of single objects
NAMES |= {f"{choice}{BY_CLASS}": f"{NAMES[choice]}, by class" for choice in CHOICES} | {"ncut": "normalised cut"}


def draw_pictures(
    folder: Path, photos: Photos, found: Mapping[str, FoundObjects], results: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Write ``jaccard.png``, the scores of ``summarise``, and ``examples.png``, from the worst photo to the best.

    Returns:
        ``file``, ``title`` and ``alt`` of each.
    """
    first = next(iter(found.values()))
    measure = "best_head" if first.heads is not None else "ncut"
    order = first.scores[measure].argsort(kind="stable")
    rows, voids = [], False
    for place in dict.fromkeys((len(order) - 1) * i // (EXAMPLES - 1) for i in range(EXAMPLES)):
        i = int(order[place])
        image, labels = photos.read(int(first.rows[i]))
        single = photos.read_objects(int(first.rows[i]))
        masks = [mask for encoder, one in found.items() for mask in one.masks(i, encoder)]
        shown = _in_colours(single if single is not None else labels, photos, single is not None)
        rows.append(_example_tiles(image, shown, masks))
        voids |= bool((labels < 0).any())
    title = f"Examples, evenly spread from the worst photo to the best by the {NAMES[measure]} of the first encoder"
    alt = f"{title}: photo, mask, and what the {' and the '.join(found)} encoder take for the object, with its Jaccard."
    heading = f"{PERCENT}; grey: void" if voids else PERCENT
    save_sheet(compose([[heading_tile(heading)], *rows]), folder / "examples.png", alt)
    scores, whole = _scores(found, results)
    chart = _draw_scores(scores, whole, folder / "jaccard.png", len(first.rows))
    return [
        {"file": "jaccard.png", "title": "How well objects are found", "alt": chart},
        {"file": "examples.png", "title": title, "alt": alt},
    ]


Rows = dict[str, Mapping[str, Any]]  # numbers by measure


def _scores(found: Mapping[str, FoundObjects], results: Mapping[str, Any]) -> tuple[dict[str, Rows], Rows]:
    """The numbers to draw, by encoder and measure, and those of the whole picture by measure."""
    by_source = {"attention": "", f"attention{BY_CLASS}": BY_CLASS, "ncut": "ncut"}
    scores: dict[str, Rows] = {name: {} for name in found}
    whole: Rows = {}
    for source, ending in by_source.items():
        for encoder in found if source in results else ():
            numbers = results[source][encoder]
            named = (
                {ending: numbers} if source == "ncut" else {f"{choice}{ending}": numbers[choice] for choice in CHOICES}
            )
            scores[encoder] |= named
            whole.update((name, results["whole_picture"][source]) for name in named)
    return scores, whole


def _in_colours(labels: np.ndarray, photos: Photos, single: bool) -> Image.Image:
    """A mask (H, W) as a picture: objects white, or each object or class in a colour; void is grey."""
    if photos.binary and not single and not (labels < 0).any():
        return stencil(torch.from_numpy(np.isin(labels, photos.objects)))
    colours = np.array([to_rgb(COLOURS[i % len(COLOURS)]) for i in range(int(labels.max(initial=0)) + 1)]) * 255
    picture = colours.astype(np.uint8)[labels]
    background = labels == 0 if single else ~np.isin(labels, photos.objects)
    picture[background] = 0
    picture[labels < 0] = VOID_GREY
    return Image.fromarray(picture)


def _example_tiles(image: Tensor, mask: Image.Image, masks: Sequence[tuple[str, np.ndarray]]) -> list[Tile]:
    """One photo (3, H, W), its mask, and titled masks (h, w) of patches, everything else shaded."""
    height, width = bounded(image.shape[1], image.shape[2], TILE)
    photo = fit(to_picture(image), width, height)
    truth = fit(mask, width, height, nearest=True)
    found = [Tile(title, shade(photo, torch.from_numpy(~mask))) for title, mask in masks]
    return [Tile("photo", photo), Tile("its mask", truth), *found]


def _draw_scores(
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    whole: Mapping[str, Mapping[str, Any]],
    path: Path,
    images: int,
) -> str:
    """Draw a dot with its 95 % interval per encoder and measure; returns the text alternative.

    Args:
        scores: by encoder, by measure (a key of ``NAMES``): ``jaccard`` and ``interval`` in percent.
        whole: by measure the scores of taking the whole picture for the object.
        path: of the PNG.
        images: how many the means are over.
    """
    measures = [name for name in NAMES if any(name in rows for rows in scores.values())]
    figure = Figure(figsize=(7, 1.15 + 0.45 * len(measures)), layout="constrained")
    axes = figure.subplots()
    for number, (encoder, rows) in enumerate(scores.items()):
        for place, name in enumerate(measures):
            row, y = rows[name], place + 0.22 * (number - (len(scores) - 1) / 2)
            axes.plot(row["interval"], [y, y], color=COLOURS[number], linewidth=2)
            title = f"{encoder} encoder" if not place else None
            axes.plot(row["jaccard"], y, MARKERS[number], color=COLOURS[number], label=title)
    for place, name in enumerate(measures):
        title = None if place else "the whole picture"
        axes.plot([whole[name]["jaccard"]] * 2, [place - 0.4, place + 0.4], ":", color="0.4", label=title)
    label(axes, f"Jaccard, % (mean of {images} photos, 95 % interval)", "")
    axes.set_yticks(range(len(measures)), [NAMES[name] for name in measures])
    axes.invert_yaxis()
    legend(figure, [axes])
    said = [
        f"{NAMES[name]} "
        + " and ".join(f"{rows[name]['jaccard']:.1f} ({encoder})" for encoder, rows in scores.items())
        + f" where the whole picture has {whole[name]['jaccard']:.1f}"
        for name in measures
    ]
    alt = f"Dots of the mean Jaccard over {images} photos in percent: {'; '.join(said)}."
    save_png(figure, path, alt)
    return alt
