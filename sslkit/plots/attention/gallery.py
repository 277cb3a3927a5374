"""Attention of many images: a sheet each, the numbers, and one page that shows them all."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError
from sslkit.files import atomic
from sslkit.plots.attention import slider
from sslkit.plots.attention.against import Other, compare
from sslkit.plots.attention.drawing import Drawing, Seen
from sslkit.plots.attention.look import Look, attend, enter, main, masking_look, sights, spoken
from sslkit.plots.attention.maps import MAX_COLUMNS, Portrait, draw_sheet, percent
from sslkit.plots.attention.page import Group, Section, render, render_section
from sslkit.plots.attention.timeline import Moment, moments
from sslkit.plots.sheet import Tile, heading_tile, key_tile

__all__ = ["Look", "Other", "attend", "draw_gallery"]

LONGEST_ROW = 12  # epochs in one row of a sheet
MAX_PICTURES = 6  # sheets that a report shows


def draw_gallery(
    encoder: Encoder,
    images: Iterable[tuple[str, Tensor]],
    folder: Path,
    look: Look,
    about: Sequence[str] = (),
    kept: Iterable[tuple[float, Encoder]] | None = None,
    other: Other | None = None,
    tab: str = "",
) -> dict[str, Any]:
    """Write a sheet per image, ``maps.npz`` and ``index.html`` into a folder.

    ``maps.npz`` holds ``names`` (n,) and ``maps`` (n, heads, h, w) float32, what is drawn head by head; where the
    images' grids differ, ``map_0000``, ``map_0001``, ... (heads, h, w) in the order of ``names`` instead. Likewise,
    where they are drawn, ``layer_map`` (n, S, heads, h, w) beside ``layers`` (S,) and ``queries`` (S,); ``rollout``
    (n, Q, h, w); ``timeline`` (n, E, h, w) beside ``epochs`` (E,); ``against_map`` (n, heads, h, w).

    Args:
        encoder: in eval mode, on ``look.device``.
        images: names and (3, H, W) uint8 pictures; taken one by one.
        folder: written to.
        look: at what size, with which masks, layers and queries.
        about: lines for the head of the page.
        kept: epochs and encoders of a training, for a timeline.
        other: a second encoder to set beside the first.
        tab: what a browser's tab calls the page.

    Returns:
        ``images``, ``heads`` and ``patches``, their numbers (patches of the first image), ``page``, its file name,
        ``pictures``, sheets with their text alternatives, and ``against``, how far the other encoder is, with one.

    Raises:
        SslkitError: no image, or an encoder that has no such attention.
    """
    seen = [_see(encoder, name, image, look, other) for name, image in images]
    if not seen:
        raise SslkitError("no image to look at: name photos with --images, or prepare data with a val split")
    history = moments(kept, [each.entered for each in seen], look) if kept is not None else []
    comparison = None
    if other is not None:
        comparison = compare([s.portrait.maps for s in seen], [s.theirs for s in seen if s.theirs is not None])
    drawing = Drawing(encoder, look, history, other, comparison)
    sections, pictures = _draw_images(drawing, seen, folder)
    _save_maps(folder / "maps.npz", seen, history)
    top = [drawing.comparison_table(len(seen))] if comparison else []
    control = slider.control(look.keep, percent(look.keep))
    title = f"Attention of {encoder.spec.arch}"
    with atomic(folder / "index.html") as handle:
        handle.write(render(title, [*about, *drawing.legend()], [*top, *sections], control, tab).encode())
    maps = seen[0].portrait.maps
    results = {"images": len(seen), "heads": maps.shape[0], "patches": maps[0].numel(), "page": "index.html"}
    against = {"against": comparison.as_json()} if comparison else {}
    return {**results, **against, "pictures": pictures[:MAX_PICTURES]}


def _see(encoder: Encoder, name: str, image: Tensor, look: Look, other: Other | None) -> Seen:
    entered = enter(encoder, image, look)
    found = sights(encoder, entered, look)
    shown, hiding = main(encoder, look), masking_look(encoder, look)
    maps = next(s.maps for s in found if (s.layer, s.query) == (shown.layers[0], shown.queries[0]))
    masking = None
    if look.mask_ratio is not None:
        masking = (maps if shown == hiding else sights(encoder, entered, hiding)[0].maps).mean(0)
    theirs = attend(other.encoder, image, other.look) if other is not None else None
    # The image no larger than a tile, so that memory does not grow with the size of the photos.
    portrait = Portrait(name, image, maps, look.keep, look.queries[0]).shrunk()
    return Seen(portrait, entered, found, masking, theirs)


def _draw_images(drawing: Drawing, seen: Sequence[Seen], folder: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Write a sheet each; parts of the page, and the sheets for a report."""
    sections, pictures = [], []
    for number, each in enumerate(seen):
        name, groups = each.portrait.name, drawing.groups(number, each)
        sheet, alt = f"{number:04d}-{_file_name(name)}.png", drawing.describe(each)
        columns = max(MAX_COLUMNS, min(len(drawing.history), LONGEST_ROW))
        picture, about = draw_sheet([tiles for g in groups for tiles in _on_sheet(g)], columns), PngInfo()
        about.add_itxt("Description", alt)
        with atomic(folder / sheet) as handle:
            picture.save(handle, "PNG", pnginfo=about)
        sections.append(render_section(Section(name, sheet, groups, drawing.note(each))))
        pictures.append({"file": sheet, "title": f"Attention: {name}", "alt": alt})
    return sections, pictures


def _on_sheet(group: Group) -> Sequence[Sequence[Tile]]:
    """A sheet has no text beside its pictures: headings become rows, and the key to colours a picture."""
    if group.folded:
        return []
    return [[heading_tile(group.heading)], [*group.tiles, key_tile(group.key)] if group.key else group.tiles]


def _save_maps(path: Path, seen: Sequence[Seen], history: Sequence[Moment]) -> None:
    sights = [[s for s in each.sights if s.layer is not None] for each in seen]
    arrays = {"names": np.array([each.portrait.name for each in seen])}
    arrays |= _stacked("map", [each.portrait.maps for each in seen], "maps")
    if len(sights[0]) > 1:
        arrays["layers"] = np.array([s.layer for s in sights[0]])
        arrays["queries"] = np.array([spoken(s.query) for s in sights[0]])
        arrays |= _stacked("layer_map", [torch.stack([s.maps for s in each]) for each in sights])
    rolled = [[s.maps[0] for s in each.sights if s.layer is None] for each in seen]
    if rolled[0]:
        arrays |= _stacked("rollout", [torch.stack(maps) for maps in rolled])
    if history:
        arrays["epochs"] = np.array([moment.epochs for moment in history])
        means = zip(*(moment.means for moment in history), strict=True)
        arrays |= _stacked("timeline", [torch.stack(of_image) for of_image in means])
    theirs = [each.theirs for each in seen if each.theirs is not None]
    arrays |= _stacked("against_map", theirs) if theirs else {}
    with atomic(path) as handle:
        np.savez(handle, **arrays)  # pyright: ignore[reportArgumentType]


def _stacked(name: str, values: Sequence[Tensor], together: str | None = None) -> dict[str, np.ndarray]:
    """One array where all images have the same grid, else one of each image, numbered."""
    if len({v.shape for v in values}) == 1:
        return {together or name: torch.stack(list(values)).numpy()}
    return {f"{name}_{number:04d}": v.numpy() for number, v in enumerate(values)}


def _file_name(name: str) -> str:
    """A name that any file system and any URL takes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "image"
