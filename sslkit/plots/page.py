"""One HTML page of pictures that needs nothing beside itself: no network, no script, light and dark."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from sslkit.plots.sheet import Tile

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d1f24; --soft: #5a5f6b; --line: #d9dce3; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171c; --ink: #e8eaf0; --soft: #a2a8b6; --line: #343944; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.25rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
h3 { font-size: .95rem; font-weight: 600; color: var(--soft); margin: 1rem 0 .4rem; }
p { margin: .25rem 0; color: var(--soft); max-width: 46rem; }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: 1.25rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem; }
figure { margin: 0; }
figcaption { font-size: .8rem; color: var(--soft); line-height: 1.3; margin-bottom: .2rem; }
img { display: block; width: 100%; height: auto; }
a { color: inherit; }
""".strip()


@dataclass(frozen=True)
class Section:
    """One image of the page.

    Attributes:
        name: its heading.
        sheet: file name, beside the page, of the same pictures as one PNG.
        groups: (heading, tiles) in order.
    """

    name: str
    sheet: str
    groups: Sequence[tuple[str, Sequence[Tile]]]


def render(title: str, about: Sequence[str], sections: Sequence[str]) -> str:
    """The page as text.

    Args:
        title: its heading.
        about: a paragraph each: what is seen, and how it was made.
        sections: one per image, each from ``render_section``.
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
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{html.escape(title)}</h1>",
            *(f"<p>{html.escape(line)}</p>" for line in about),
            *sections,
            "</body>",
            "</html>",
            "",
        ]
    )


def render_section(section: Section) -> str:
    """One image's part of the page; its pictures are in it, so that tiles need not be kept."""
    name = html.escape(section.name)
    parts = [f"<section>\n<h2>{name}</h2>"]
    for heading, tiles in section.groups:
        figures = "\n".join(_figure(tile, f"{section.name}: {heading}, {tile.title}") for tile in tiles)
        parts.append(f'<h3>{html.escape(heading)}</h3>\n<div class="tiles">\n{figures}\n</div>')
    parts.append(f'<p><a href="{quote(section.sheet)}">All of this as one picture</a></p>\n</section>')
    return "\n".join(parts)


def _figure(tile: Tile, alt: str) -> str:
    width, height = tile.picture.size
    return (
        f"<figure><figcaption>{html.escape(tile.title)}</figcaption>"
        f'<img src="{_data_uri(tile)}" width="{width}" height="{height}" alt="{html.escape(alt)}"></figure>'
    )


def _data_uri(tile: Tile) -> str:
    buffer = io.BytesIO()
    tile.picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
