"""Attention of many images: a sheet each, the numbers, and one page that shows them all."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslkit.files import atomic, printable
from sslkit.plots.attention import slider
from sslkit.plots.attention.contents import GalleryContents
from sslkit.plots.attention.maps import MAX_COLUMNS, draw_sheet, percent
from sslkit.plots.attention.page import ImageSection, TileGroup, render, render_section
from sslkit.plots.sheet import Tile, heading_tile, key_tile, save_sheet
from sslkit.probes.inspect.attention_maps import ImageAttention, KeptAttention, spoken

LONGEST_ROW = 12  # epochs in one row of a sheet
MAX_PICTURES = 6  # sheets that a report shows


def draw_gallery(
    contents: GalleryContents, images: Sequence[ImageAttention], folder: Path, about: Sequence[str] = (), tab: str = ""
) -> dict[str, Any]:
    """Write a sheet per image, ``maps.npz`` and ``index.html`` into a folder.

    ``maps.npz`` holds ``names`` (n,) and ``maps`` (n, heads, h, w) float32, what is drawn head by head; where the
    images' grids differ, ``map_0000``, ``map_0001``, ... (heads, h, w) in the order of ``names`` instead. Likewise,
    where they are drawn, ``layer_map`` (n, S, heads, h, w) with ``layers`` (S,) and ``queries`` (S,); ``rollout``
    (n, Q, h, w); ``timeline`` (n, E, h, w) with ``epochs`` (E,); ``against_map`` (n, heads, h, w).

    Args:
        contents: what is drawn of each image.
        images: at least one.
        folder: written to.
        about: paragraphs at the top of the page.
        tab: title of the browser tab.

    Returns:
        The numbers of ``images``, ``heads`` and ``patches`` (of the first image), the file name of the ``page``, the
        first sheets as ``pictures``, and ``against``, the divergence from the other encoder.
    """
    matching = contents.matching
    sections, pictures = _draw_images(contents, images, folder)
    _save_maps(folder / "maps.npz", images, contents.history)
    top = [contents.comparison_table(len(images))] if matching else []
    control = slider.control(contents.keep, percent(contents.keep))
    about = [*about, *contents.legend()]
    page = render(contents.title, about, [*top, *sections], control, tab, contents.links())
    with atomic(folder / "index.html") as handle:
        handle.write(printable(page).encode())
    maps = images[0].main.maps
    results = {"images": len(images), "heads": maps.shape[0], "patches": maps[0].numel(), "page": "index.html"}
    against = {"against": matching.as_json()} if matching else {}
    return {**results, **against, "pictures": pictures[:MAX_PICTURES]}


def _draw_images(
    contents: GalleryContents, images: Sequence[ImageAttention], folder: Path
) -> tuple[list[str], list[dict[str, str]]]:
    """Write a sheet per image; returns the sections of the page, and the sheets for a report."""
    sections, pictures = [], []
    for number, each in enumerate(images):
        name, groups = each.name, contents.groups(number, each)
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "image"  # in any file system and URL
        sheet, alt = f"{number:04d}-{safe}.png", contents.describe(each)
        columns = max(MAX_COLUMNS, min(len(contents.history), LONGEST_ROW))
        save_sheet(draw_sheet([tiles for g in groups for tiles in _on_sheet(g)], columns), folder / sheet, alt)
        sections.append(render_section(ImageSection(name, sheet, groups, contents.note(each))))
        pictures.append({"file": sheet, "title": f"Attention: {name}", "alt": alt})
    return sections, pictures


def _on_sheet(group: TileGroup) -> Sequence[Sequence[Tile]]:
    """Rows of a sheet, which has no text: headings become rows, and the key to colours becomes a picture."""
    if group.folded:
        return []
    return [[heading_tile(group.heading)], [*group.tiles, key_tile(group.key)] if group.key else group.tiles]


def _save_maps(path: Path, images: Sequence[ImageAttention], history: Sequence[KeptAttention]) -> None:
    layers = [[maps for maps in each.every if maps.layer is not None] for each in images]
    arrays = {"names": np.array([each.name for each in images])}
    arrays |= _stacked("map", [each.main.maps for each in images], "maps")
    if len(layers[0]) > 1:
        arrays["layers"] = np.array([maps.layer for maps in layers[0]])
        arrays["queries"] = np.array([spoken(maps.query) for maps in layers[0]])
        arrays |= _stacked("layer_map", [torch.stack([maps.maps for maps in each]) for each in layers])
    rolled = [[maps.maps[0] for maps in each.every if maps.layer is None] for each in images]
    if rolled[0]:
        arrays |= _stacked("rollout", [torch.stack(maps) for maps in rolled])
    if history:
        arrays["epochs"] = np.array([kept.epochs for kept in history])
        means = zip(*(kept.means for kept in history), strict=True)
        arrays |= _stacked("timeline", [torch.stack(of_image) for of_image in means])
    theirs = [each.other for each in images if each.other is not None]
    arrays |= _stacked("against_map", theirs) if theirs else {}
    with atomic(path) as handle:
        np.savez(handle, **arrays)  # pyright: ignore[reportArgumentType]


def _stacked(name: str, values: Sequence[Tensor], together: str | None = None) -> dict[str, np.ndarray]:
    """One array if all images have the same grid, else a numbered array for each image."""
    if len({v.shape for v in values}) == 1:
        return {together or name: torch.stack(list(values)).numpy()}
    return {f"{name}_{number:04d}": v.numpy() for number, v in enumerate(values)}
