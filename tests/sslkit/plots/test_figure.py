"""Figures as SVG: two in one page share no id, follow the page's colours, and have a text alternative."""

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from sslkit.plots.figure import COLOURS, as_svg

XLINK = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture
def figure() -> Figure:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([1, 2], [1, 2], color=COLOURS[1], marker="o", gid="line", label='a <b> & "c"')
    axes.fill_between([1, 2], [1, 1], [2, 2], color=COLOURS[0], hatch="/")
    axes.text(1, 1, "#000000", color="#101010")
    axes.legend()
    return figure


def test_ids_are_unique_to_the_figure_and_references_resolve(figure: Figure) -> None:
    found = {}
    for name in ("one", "two"):
        tree = ElementTree.fromstring(as_svg(figure, "alt", name))
        ids = [element.get("id") for element in tree.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        text = ElementTree.tostring(tree, encoding="unicode")
        used = re.findall(r"url\(#([^)]+)\)", text)
        used += [element.get(XLINK, "")[1:] for element in tree.iter() if element.get(XLINK)]
        assert used
        assert set(used) <= set(ids)
        assert f"{name}-line" in ids
        found[name] = set(ids)
    assert not found["one"] & found["two"]


def test_colours_font_and_size_are_the_pages(figure: Figure) -> None:
    svg = as_svg(figure, "alt", "one")
    assert f"stroke: var(--series-1, {COLOURS[1]})" in svg
    assert "stroke: currentColor" in svg
    assert "#101010" in svg  # only black is the page's ink
    assert ">#000000</text>" in svg  # words are left alone
    assert set(re.findall(r"font-family: ([^;\"]*)", svg)) == {"inherit"}
    assert "<style" not in svg
    assert "<metadata" not in svg
    root = ElementTree.fromstring(svg)
    assert "width" not in root.attrib
    assert root.get("viewBox") == "0 0 288 216"


def test_a_screen_reader_reads_the_alternative(figure: Figure) -> None:
    root = ElementTree.fromstring(as_svg(figure, 'a "quoted" & <odd> line', "one"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'a "quoted" & <odd> line'
