"""What all pages have in common: landmarks, headings in order, a name for every control, contrast, and paper."""

import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslkit.plots.attention import page
from sslkit.plots.attention.slider import control
from sslkit.plots.inline import picture_uri
from sslkit.plots.inspect import embedding, neighbours
from sslkit.plots.report import report
from sslkit.plots.sheet import Tile
from sslkit.plots.template import render_template
from sslkit.probes.inspect.embedding import FeatureMap

PICTURE = Image.effect_noise((80, 80), 80).convert("RGB")
VOID = {"meta", "link", "img", "input", "line", "br", "path", "circle"}


def attention() -> str:
    groups = [
        page.TileGroup("maps", [Tile("60 % of it", PICTURE)], layout=layout) for layout in ("grid", "wide", "strip")
    ]
    groups.append(page.TileGroup("more", [Tile("map", PICTURE)], folded=True))
    table = page.render_table("Compared with b", ["About."], ["here", "b"], [["head 1", "head 2"]])
    section = page.render_section(page.ImageSection("one", "one.png", groups, "note"))
    return page.render("Attention", ["About."], [table, section], control(0.6, "60 %"), "a: attention · sslkit")


def features() -> str:
    positions = np.random.default_rng(0).normal(size=(6, 2))
    maps = [FeatureMap(m, positions, ("x", "y"), 0.9, {"explained": [1.0], "perplexity": 2.0}) for m in ("pca", "tsne")]
    classes = embedding.points_by_class(np.arange(6) % 2, ["cat", "dog"])
    thumbnails = embedding.thumbnail_sheet([PICTURE] * 6)
    return embedding.page("Map", ["About."], maps, classes, list("abcdef"), thumbnails, "a: map · sslkit")


def nearest() -> str:
    near = [neighbours.NeighbourImage("cat", PICTURE, 0.5, right) for right in (True, False)]
    queries = [neighbours.QueryImage("k", "cat", "dog", False, PICTURE, near)]
    pair = {"true": "cat", "predicted": "dog", "count": 1, "share": 1.0}
    return neighbours.page("Near", [], queries, "a: near · sslkit", pairs=[pair], matrix="", matrix_title="Shares")


def reported() -> str:
    table = report.Table("Runs", ["run", "k-NN"], [[report.Cell("a"), report.Cell("5", number=True, tag="stale")]])
    notices = [report.Notice("bad", "failed", "knn: it broke.", "sslkit knn a")]
    steps = [report.Step("knn", "failed", "bad", [("took", "1 s")], "sslkit knn a", notices)]
    origins = [report.Origin("a", "runs/a", steps)]
    tiles = [report.Headline("k-NN", "5 %", "", "stale")]
    told = {
        "notices": notices,
        "tiles": tiles,
        "recipes": [("a", "x: 1")],
        "results": table,
        "tab": "a: report · sslkit",
    }
    return report.render(report.Report("a", "now", "1 run", ["a"], table, table, origins, **told))


PAGES: dict[str, Callable[[], str]] = {
    "attention": attention,
    "features": features,
    "nearest": nearest,
    "report": reported,
}


class Outline(HTMLParser):
    """Elements in order with their attributes, their text, and the elements that they are in."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.words: list[str] = []
        self.path: list[tuple[str, int]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), [name for name, _ in self.path]))
        self.words.append("")
        if tag not in VOID:
            self.path.append((tag, len(self.found) - 1))

    def handle_endtag(self, tag: str) -> None:
        while tag not in VOID and self.path and self.path.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for _, number in self.path:
            self.words[number] += data


@pytest.fixture(params=list(PAGES))
def outline(request: pytest.FixtureRequest) -> Outline:
    return Outline(PAGES[request.param]())


def test_a_page_has_a_landmark_a_language_and_its_own_title(outline: Outline) -> None:
    tags = [tag for tag, _, _ in outline.found]
    assert outline.found[0][:2] == ("html", {"lang": "en"})
    assert tags.count("main") == tags.count("h1") == tags.count("title") == 1
    assert re.fullmatch(r"a: \w+ · sslkit", outline.words[tags.index("title")])
    # Whatever can be read or used is in the landmark, except a link to it and lists of links.
    within = [(tag, path) for tag, _, path in outline.found if tag in ("h1", "h2", "h3", "p", "img", "input", "table")]
    assert all("main" in path or "dialog" in path for tag, path in within if tag != "p")
    assert within
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_control_is_named_and_in_the_order_of_the_page(outline: Outline) -> None:
    fields = {attributes.get("for") for tag, attributes, _ in outline.found if tag == "label"}
    names = {attributes["id"] for _, attributes, _ in outline.found if "id" in attributes}
    for (tag, attributes, path), words in zip(outline.found, outline.words, strict=True):
        assert attributes.get("tabindex", "0") in ("0", "-1")
        if tag == "input":
            assert attributes.get("id") in fields or "label" in path
        elif tag in ("button", "a", "summary"):
            assert words.strip() or attributes.get("aria-label")
        elif tag == "img":
            assert attributes.get("alt")
        elif "tabindex" in attributes and attributes.get("role") != "application":  # named by its script
            assert attributes.get("role") in ("region", "group")
            assert attributes.get("aria-label") or attributes.get("aria-labelledby") in names


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_printed_pages_are_white_and_do_not_split_pictures(browser, tmp_path: Path, name: str, scheme: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGES[name]())
    opened = browser.new_page(color_scheme=scheme)
    opened.goto(path.as_uri())
    opened.emulate_media(media="print", color_scheme=scheme)
    ground, ink = opened.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert ground == "rgb(255, 255, 255)"
    assert sum(map(int, re.findall(r"\d+", ink))) < 120
    whole = "[...document.querySelectorAll('figure, tr')].every(each => getComputedStyle(each).breakInside === 'avoid')"
    assert opened.evaluate(whole)
    opened.close()


def palettes() -> list[dict[str, str]]:
    """Names and colours: by light, by dark, on paper."""
    text = render_template("colours.css")
    found = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", text, re.S)
    ]
    assert len(found) == 3
    assert len({tuple(sorted(each)) for each in found}) == 1  # each names all of them
    return found


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours."""

    def light(code: str) -> float:
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("number", range(3), ids=["light", "dark", "paper"])
def test_text_contrasts_with_its_background(number: int) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    colours = palettes()[number]
    grounds = [name for name in colours if name.endswith("-ground")]
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("paper", "raised")]
    pairs += [("ink", ground) for ground in grounds]
    pairs += [(kind, ground) for kind in ("good", "warn", "bad") for ground in ("paper", f"{kind}-ground")]
    weak = {pair: round(ratio, 2) for pair in pairs if (ratio := contrast(*(colours[name] for name in pair))) < 4.5}
    lines = {name for name in colours if name.startswith("series") and contrast(colours[name], colours["paper"]) < 3}
    assert weak == {}
    assert lines == set()


def test_failures_are_stated_in_words() -> None:
    text = reported()
    assert "<b>Failed:</b> knn: it broke." in text
    assert text.count("<code>sslkit knn a</code>") == 2
    assert text.count(">stale</span>") == 4  # its tile, and the three tables


def test_maps_and_small_pictures_are_exact() -> None:
    grey = Image.linear_gradient("L").convert("RGB")  # 256 colours
    kinds = [picture_uri(each)[5:15] for each in (grey, PICTURE, PICTURE.resize((64, 64)))]
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 70, 3), dtype=np.uint8))
    assert kinds == ["image/png;"] * 3
    assert picture_uri(photo).startswith("data:image/jpeg;base64,")
    assert picture_uri(photo.resize((64, 64))).startswith("data:image/png;base64,")
