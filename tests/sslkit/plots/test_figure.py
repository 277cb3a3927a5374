"""Figures as SVG: two in one page share no id, follow the page's colours, and have a text alternative."""

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from sslkit.plots.figure import COLOURS, as_svg, label, legend
from sslkit.plots.inspect import occlusion

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


@pytest.mark.parametrize(("names", "rows"), [(["a", "b"], 1), ([*"abcdefg"], 3), (["a long name " * 4] * 4, 4)])
def test_a_legend_takes_nothing_of_the_axes(names: list[str], rows: int) -> None:
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.subplots()
    label(axes, "x", "y")
    figure.draw_without_rendering()
    alone = axes.get_window_extent().height
    for number, name in enumerate(names):
        axes.plot([0, 1], [0, 1], label=f"{name}{number}")
    legend(figure, [axes])
    figure.draw_without_rendering()
    (made,) = figure.legends
    assert axes.get_window_extent().height == pytest.approx(alone, rel=0.05)
    assert axes.xaxis.label.get_window_extent().y0 > made.get_window_extent().y1
    assert made.get_window_extent().y0 >= 0
    assert len({round(text.get_window_extent().y0) for text in made.get_texts()}) == rows


def test_an_occlusion_chart_is_as_high_with_all_its_curves(monkeypatch, tmp_path) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(occlusion, "save_png", lambda figure, path, alt: figures.append(figure))
    rows = [{"share": share, "top1": 50.0, "interval": (45.0, 55.0)} for share in (0.0, 0.5)]
    for kinds in (["random"], list(occlusion.KINDS)):
        occlusion.draw_occlusion(dict.fromkeys(kinds, rows), dict.fromkeys(kinds, 50.0), 10.0, tmp_path / "a.png")
    heights = []
    for figure in figures:
        figure.draw_without_rendering()
        (axes,) = figure.axes
        heights.append(axes.get_window_extent().height)
        name = axes.yaxis.label.get_window_extent()
        assert 0 <= name.y0 < name.y1 <= figure.bbox.y1
    assert heights[0] == pytest.approx(heights[1], rel=0.02)
