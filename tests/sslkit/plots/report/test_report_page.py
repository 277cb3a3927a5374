"""The report as a page, whatever it is filled with."""

import re
from pathlib import Path

from PIL import Image

from sslkit.plots.report.report import Cell, Gallery, Picture, Report, Table, render


def test_pictures_with_small_letters_take_the_whole_width(tmp_path: Path) -> None:
    table = Table("Runs", ["run"], [[Cell("a")]])
    pictures = []
    for name, about in {"sheet": {}, "figure": {"dpi": (130, 130)}}.items():
        Image.new("RGB", (900, 20)).save(tmp_path / f"{name}.png", **about)
        pictures.append(Picture(tmp_path / f"{name}.png", name, name))
    text = render(Report("t", "now", "1 run", ["a"], table, table, [], galleries=[Gallery("g", pictures)]))
    assert re.findall(r"<figure( class=\"broad\")?>\s*<figcaption>(\w+)", text) == [
        (' class="broad"', "sheet"),
        ("", "figure"),
    ]


def test_an_empty_report_is_a_page() -> None:
    table = Table("Runs", ["run"], [[Cell("a")]])
    page = render(Report("t", "now", "1 run", ["a"], table, table, []))
    for section in ("Training", "Results", "Pictures"):
        assert section not in page
