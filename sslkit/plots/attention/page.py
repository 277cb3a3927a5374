"""The page of attention maps: one HTML file that works offline, in light and dark, and without its script."""

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from sslkit.plots.attention import slider
from sslkit.plots.inline import picture_uri
from sslkit.plots.sheet import Tile
from sslkit.plots.template import render_template, tight


@dataclass(frozen=True)
class TileGroup:
    """Pictures under one heading."""

    heading: str
    tiles: Sequence[Tile]
    key: Sequence[tuple[str, str]] = ()  # what colours mean: names and colours
    layout: Literal["grid", "wide", "strip"] = "grid"  # wide: pictures of double width; strip: one row, which scrolls
    folded: bool = False  # only the heading is shown until the reader opens it
    anchor: str = ""  # by which a link finds it


@dataclass(frozen=True)
class ImageSection:
    """One image of the page."""

    name: str
    sheet: str  # file name, next to the page, of the same pictures as one PNG
    groups: Sequence[TileGroup]
    note: str = ""  # a line below the heading


def render(
    title: str,
    about: Sequence[str],
    sections: Sequence[str],
    control: str = "",
    tab: str = "",
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The HTML of the page.

    Args:
        title: its heading, and the title of the browser tab unless ``tab`` is given.
        about: paragraphs that say what is shown and how it was made.
        sections: from ``render_table`` and ``render_section``.
        control: from ``slider.control``, where the pictures have steps.
        tab: title of the browser tab.
        links: sentences on what is further down, each with the anchor of a group.
    """
    from markupsafe import Markup

    return render_template(
        "attention.html.j2",
        tab=tab or title,
        title=title,
        about=about,
        links=links,
        sections=[Markup(section) for section in sections],
        control=Markup(control),
        shade=slider.COVER,
    )


def render_section(section: ImageSection) -> str:
    """One image's section of the page, with its pictures inside, so that tiles need not be kept."""
    note = f"<p>{html.escape(tight(section.note))}</p>" if section.note else ""
    parts = [f"<section>\n<h2>{html.escape(section.name)}</h2>{note}"]
    parts += [_group(section.name, group) for group in section.groups]
    parts.append(f'<p><a href="{quote(os.fsencode(section.sheet))}">As one picture</a></p>\n</section>')
    return "\n".join(parts)


def render_table(heading: str, about: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its heading and explanatory paragraphs; the first column names the rows."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th>' + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>" for name, *cells in rows
    )  # fmt: skip
    lines = "\n".join(f"<p>{html.escape(tight(line))}</p>" for line in about)
    return (
        f"<section>\n<h2>{html.escape(heading)}</h2>\n{lines}\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(heading)}"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n</section>"
    )


def _group(image: str, group: TileGroup) -> str:
    figures = "\n".join(_figure(tile, f"{image}: {group.heading}, {tile.title}") for tile in group.tiles)
    heading = html.escape(group.heading)
    name = html.escape(f"{image}: {group.heading}")
    more = f' tabindex="0" role="group" aria-label="{name}"' if group.layout == "strip" else ""
    kind = "tiles" if group.layout == "grid" else f"tiles {group.layout}"
    names = "".join(f'<li><span style="background: {code}"></span>{html.escape(name)}</li>' for name, code in group.key)
    body = f'<div class="{kind}"{more}>\n{figures}\n</div>' + (f'<ul class="key">{names}</ul>' if names else "")
    if group.folded:
        return f"<details><summary>{heading}</summary>\n{body}\n</details>"
    found = f' id="{html.escape(group.anchor)}"' if group.anchor else ""
    return f'<div class="group"{found}>\n<h3>{heading}</h3>\n{body}\n</div>'


def _figure(tile: Tile, alt: str) -> str:
    width, height = tile.picture.size
    return (
        f"<figure{slider.attributes(tile)}><figcaption>{html.escape(tight(tile.title))}</figcaption>"
        f'<img src="{picture_uri(tile.picture)}" width="{width}" height="{height}" alt="{html.escape(alt)}"></figure>'
    )
