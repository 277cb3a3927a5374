"""One HTML page of pictures that needs nothing beside itself: no network, light and dark; whole without its script."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from PIL import Image

from sslkit.plots import slider
from sslkit.plots.sheet import Tile

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d1f24; --soft: #5a5f6b; --line: #d9dce3;
  --accent: #0072B2; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171c; --ink: #e8eaf0; --soft: #a2a8b6; --line: #343944;
  --accent: #56B4E9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.25rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
h3 { font-size: .95rem; font-weight: 600; color: var(--soft); margin: 1rem 0 .4rem; }
p { margin: .25rem 0; color: var(--soft); max-width: 46rem; }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: 1.25rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem;
  align-items: end; }
figure { margin: 0; }
figcaption { font-size: .8rem; color: var(--soft); line-height: 1.3; margin-bottom: .2rem; }
img { display: block; width: 100%; height: auto; }
a { color: inherit; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.strip { display: flex; overflow-x: auto; padding-bottom: .5rem; }
.strip figure { flex: 0 0 8.5rem; }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; margin: .4rem 0 0; padding: 0;
  font-size: .85rem; }
.key span { display: inline-block; width: .85em; height: .85em; margin-right: .4em; border: 1px solid var(--line); }
details { margin-top: 1rem; }
summary { font-size: .95rem; color: var(--soft); cursor: pointer; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line); font-weight: inherit; }
th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; }
thead th { color: var(--soft); font-size: .85rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media print { section { break-inside: avoid-page; } .strip { flex-wrap: wrap; gap: .75rem; } }
""".strip()
MAP_COLOURS = 260  # cividis has 256; a frame and the seam of a pair come on top
QUALITY = 88  # of photographs, as JPEG


@dataclass(frozen=True)
class Group:
    """Pictures that belong together.

    Attributes:
        heading: what they show.
        tiles: in order.
        key: names and colours, where colours stand for something.
        layout: ``wide`` pictures are twice as wide as others; a ``strip`` is one row, which scrolls.
        folded: only its heading is seen until it is opened.
    """

    heading: str
    tiles: Sequence[Tile]
    key: Sequence[tuple[str, str]] = ()
    layout: Literal["grid", "wide", "strip"] = "grid"
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One image of the page.

    Attributes:
        name: its heading.
        sheet: file name, beside the page, of the same pictures as one PNG.
        groups: in order.
        note: a line below the heading.
    """

    name: str
    sheet: str
    groups: Sequence[Group]
    note: str = ""


def render(title: str, about: Sequence[str], sections: Sequence[str], control: str = "") -> str:
    """The page as text.

    Args:
        title: its heading.
        about: a paragraph each: what is seen, and how it was made.
        sections: one per image, each from ``render_section``.
        control: from ``slider.control``, where the pictures have steps.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # An empty icon, so that no browser asks a server for one.
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{STYLE}\n{slider.STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{html.escape(title)}</h1>",
            *(f"<p>{html.escape(line)}</p>" for line in about),
            control,
            *sections,
            f"<script>{slider.SCRIPT}</script>" if control else "",
            "</body>",
            "</html>",
            "",
        ]
    )


def render_section(section: Section) -> str:
    """One image's part of the page; its pictures are in it, so that tiles need not be kept."""
    note = f"<p>{html.escape(section.note)}</p>" if section.note else ""
    parts = [f"<section>\n<h2>{html.escape(section.name)}</h2>{note}"]
    parts += [_group(section.name, group) for group in section.groups]
    parts.append(f'<p><a href="{quote(section.sheet)}">As one picture</a></p>\n</section>')
    return "\n".join(parts)


def render_table(heading: str, about: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its heading and a paragraph each of what it says."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    lines = "\n".join(f"<p>{html.escape(line)}</p>" for line in about)
    return (
        f"<section>\n<h2>{html.escape(heading)}</h2>\n{lines}\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(heading)}"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n</section>"
    )


def _group(image: str, group: Group) -> str:
    figures = "\n".join(_figure(tile, f"{image}: {group.heading}, {tile.title}") for tile in group.tiles)
    heading = html.escape(group.heading)
    more = f' tabindex="0" role="region" aria-label="{heading}"' if group.layout == "strip" else ""
    kind = "tiles" if group.layout == "grid" else f"tiles {group.layout}"
    names = "".join(f'<li><span style="background: {code}"></span>{html.escape(name)}</li>' for name, code in group.key)
    body = f'<div class="{kind}"{more}>\n{figures}\n</div>' + (f'<ul class="key">{names}</ul>' if names else "")
    if group.folded:
        return f"<details><summary>{heading}</summary>\n{body}\n</details>"
    return f"<h3>{heading}</h3>\n{body}"


def _figure(tile: Tile, alt: str) -> str:
    width, height = tile.picture.size
    return (
        f"<figure{slider.attributes(tile)}><figcaption>{html.escape(tile.title)}</figcaption>"
        f'<img src="{_data_uri(tile.picture)}" width="{width}" height="{height}" alt="{html.escape(alt)}"></figure>'
    )


def _data_uri(picture: Image.Image) -> str:
    """Maps exactly, as PNG; what has more colours than they can have is a photograph."""
    buffer, kind = io.BytesIO(), "png" if picture.getcolors(MAP_COLOURS) else "jpeg"
    if kind == "png":
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
