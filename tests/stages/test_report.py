"""`sslkit report`: its file about one or several runs, read as text and opened in a browser."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_fixture import page_errors
from conftest import unsealed, write_features
from PIL import Image

from sslkit.statistics.intervals import wilson

ODD = '<b>&"x'
Shown = Callable[..., tuple[int, str, str]]


class Elements(HTMLParser):
    """Every element's name and attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.code, self.open = "", "", []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self.open[-1:] in (["script"], ["style"])
        self.code, self.text = self.code + data * inside, self.text + data * (not inside)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**unsealed(path), **values}))


@pytest.fixture(scope="module")
def runs(trained_run: Path) -> list[Path]:
    """Two copies next to the trained run: one is named to break a page, has another accuracy and a picture."""
    copies = [trained_run.with_name(name) for name in ("report-a", ODD)]
    for copy in copies:
        shutil.copytree(trained_run, copy)
    folder = copies[1] / "knn"
    noise = np.random.default_rng(0).integers(0, 255, (60, 1800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    record = unsealed(folder / "stage.json")
    picture = {"file": "noise.png", "title": "</script><i>Noise", "alt": 'a "picture" of noise'}
    record["results"] |= {"top1": 62.5, "pictures": [picture]}
    record["command"] += " --note '<script>alert(1)</script>'"
    (folder / "stage.json").write_text(json.dumps(record))
    return copies


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their report."""
    from stages.report import WriteReport

    path = tmp_path_factory.mktemp("report") / "page.html"
    WriteReport(runs=runs, out=path).execute()
    return path


@pytest.fixture(scope="module")
def elements(page: Path) -> Elements:
    return Elements(page.read_text())


def test_the_file_needs_no_other_file(page: Path, elements: Elements) -> None:
    assert page.stat().st_size < 15e6
    for tag, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), f"<{tag} {name}={value[:80]}>"
    assert not re.search(r"@import|url\(\s*['\"]?(?!#|data:)", page.read_text())
    assert [link["href"] for link in elements.all("link")] == ["data:,"]
    assert "<metadata" not in page.read_text()


def test_every_picture_has_a_text_alternative_and_every_id_is_unique(elements: Elements) -> None:
    ids = Counter(attributes["id"] for _, attributes in elements.found if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    for _, attributes in elements.found:
        named = [attributes.get(key) for key in ("aria-labelledby", "for")]
        links = [value[1:] for key in ("href", "xlink:href") if (value := attributes.get(key) or "").startswith("#")]
        clips = re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for value in attributes.values()))
        assert {*filter(None, named), *links, *clips} <= set(ids)
    assert elements.all("img")
    assert all(image.get("alt") for image in elements.all("img"))
    figures = [svg for svg in elements.all("svg") if svg.get("class") != "swatch"]
    assert figures
    assert all(svg["role"] == "img" and len(svg["aria-label"] or "") > 30 for svg in figures)
    assert all(button.get("type") == "button" for button in elements.all("button")[:-1])


def test_text_from_a_run_is_escaped(page: Path, elements: Elements) -> None:
    for text in (ODD, "--note '<script>alert(1)</script>'", "</script><i>Noise"):
        assert text in elements.text
    for markup in ("<i>Noise", "<script>alert", ODD):
        assert markup not in page.read_text()


def test_accuracies_have_their_intervals(runs: list[Path], elements: Elements) -> None:
    low, high = wilson(62.5, json.loads((runs[0] / "knn" / "results.json").read_text())["val_images"])
    assert "62.5" in elements.text
    assert f"{low:.1f} to {high:.1f}" in elements.text
    assert "k-NN, with 95\u00a0% intervals" in elements.text
    # What a stage listed, and what both training runs drew.
    assert len(elements.all("img")) == 3


def copied(trained_run: Path, name: str) -> Path:
    return Path(shutil.copytree(trained_run, trained_run.with_name(name)))


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the curves, which take most of the time; not every test looks at them."""
    monkeypatch.setattr("sslkit.plots.report.report.training", lambda logs: [])


@pytest.mark.usefixtures("no_curves")
def test_the_report_of_one_run_is_in_it_and_has_tiles(trained_run: Path, sslkit: Shown) -> None:
    run = copied(trained_run, "report-one")
    shutil.copytree(run / "features", run / "on" / "other" / "features")
    shutil.copytree(run / "knn", run / "on" / "other" / "knn")
    change(run / "features" / "features.json", precision="other")
    shutil.copytree(run / "knn", run / "attention")
    (run / "attention" / "index.html").write_text("a page")
    change(run / "attention" / "stage.json", results={"page": "index.html", "images": 3}, inputs={})
    code, out, _ = sslkit("report", run, "--json", "--title", "A & B")
    result = json.loads(out)
    assert code == 0
    assert result["report"] == str(run / "report.html")
    assert result["runs"] == [str(run)]
    elements = Elements((run / "report.html").read_text())
    text = elements.text
    assert "attention/index.html" in [link["href"] for link in elements.all("a")]
    assert "not in this file" in text
    assert result["bytes"] == (run / "report.html").stat().st_size
    for words in ("A & B", "k-NN on other", "attmask", "collapse"):
        assert words in text
    assert "Stale: k-NN: features changed since" in text
    assert "What differs" not in text
    # A report belongs to no stage, and is rewritten.
    assert sslkit("report", run)[0] == 0
    assert sslkit("status", run)[0] == 0


def evaluated(run: Path, folder: str, top1: float, **results: Any) -> None:
    """Another stage's results, made from those of k-NN."""
    shutil.copytree(run / "knn", run / folder, dirs_exist_ok=True)
    record = unsealed(run / folder / "stage.json")
    found = {key: value for key, value in record["results"].items() if key != "k"}
    change(run / folder / "stage.json", results={**found, "top1": top1, **results}, inputs={})


@pytest.mark.usefixtures("no_curves")
def test_few_shot_states_its_shots_and_a_baseline_that_it_is_one(trained_run: Path, sslkit: Shown) -> None:
    runs = [copied(trained_run, f"report-few-{name}") for name in "ab"]
    rows = [{"shots": n, "top1": 20.0, "interval": 1.25, "top5": 50.0, "draws": 20} for n in (1, 10)]
    evaluated(runs[0], "knn-shots", 20.0, shots=rows)
    for run, top1 in zip(runs, (44.0, 55.0), strict=True):
        evaluated(run, "finetune-random-labels-0.1", top1, start="random")
    evaluated(runs[0], "linear", 33.0)
    out = trained_run.with_name("few.html")
    assert sslkit("report", *runs, "--out", out)[0] == 0
    page = Elements(out.read_text())
    assert "few-shot, 10 shots, mean of 20 draws (%)" in page.text
    assert "18.8 to 21.2" in page.text
    assert "Few-shot: the interval over other draws of the labelled images" in page.text
    assert "random weights, fine-tuned, labels-0.1 (%)" in page.text
    assert "fine-tuned, random" not in page.text
    # Only one run has the former; both have the latter.
    assert "<b>55.0</b>" in out.read_text()
    assert "<b>20.0" not in out.read_text()
    assert "<b>33.0" not in out.read_text()


@pytest.mark.usefixtures("no_curves")
def test_results_by_another_protocol_are_noted_and_none_is_the_highest(trained_run: Path, sslkit: Shown) -> None:
    runs = [copied(trained_run, f"report-protocol-{name}") for name in "ab"]
    record = unsealed(runs[1] / "knn" / "stage.json")
    change(runs[1] / "knn" / "stage.json", results={**record["results"], "k": 7, "top1": 99.0})
    out = trained_run.with_name("protocol.html")
    assert sslkit("report", *runs, "--out", out)[0] == 0
    text = Elements(out.read_text()).text
    assert f"k-NN at different k (report-protocol-a {record['results']['k']}, report-protocol-b 7)." in text
    assert "Bold" not in text


@pytest.mark.usefixtures("no_curves")
def test_a_run_is_known_by_its_recipes_and_an_older_one_by_its_method(trained_run: Path, sslkit: Shown) -> None:
    run = copied(trained_run, "report-recipes")
    shown = {}
    for recipes in (["attmask", "scales/my-scale.yaml"], None):
        how = unsealed(run / "pretrain" / "stage.json")["how"]
        change(run / "pretrain" / "stage.json", how={**how, "recipes": recipes})
        assert sslkit("report", run)[0] == 0
        shown[bool(recipes)] = Elements((run / "report.html").read_text()).text
    assert "attmask, my-scale" in shown[True]
    assert "my-scale" not in shown[False]
    assert "joint embedding" in shown[False]


@pytest.mark.usefixtures("no_curves")
def test_many_evaluations_are_rows(trained_run: Path, sslkit: Shown) -> None:
    run = copied(trained_run, "report-many")
    for number in range(8):
        evaluated(run, f"linear-labels-0.{number + 1}", 10.0 + number)
    code, out, _ = sslkit("report", run)
    text = (run / "report.html").read_text()
    assert code == 0
    assert re.search(r"\(\d+ kB\)", out)
    assert text.count('<th scope="row">linear, labels-0.') >= 8
    assert '<th scope="col">evaluation</th><th scope="col" class="number">report-many</th>' in text


@pytest.mark.usefixtures("no_curves")
def test_seeds_are_one_row_with_the_interval_of_their_mean(trained_run: Path, tmp_path: Path, sslkit: Shown) -> None:
    runs = [copied(trained_run, f"report-seeds-s{seed}") for seed in range(2)]
    for run, top1 in zip(runs, (20.0, 30.0), strict=True):
        record = unsealed(run / "knn" / "stage.json")
        change(run / "knn" / "stage.json", results={**record["results"], "top1": top1})
    assert sslkit("report", *runs, "--seeds", "--out", tmp_path / "r.html")[0] == 0
    text = Elements((tmp_path / "r.html").read_text()).text
    # t = 12.706, standard error 5.
    for words in ("25.0 ± 63.5", "20.0, 30.0", "2 runs of 1 experiments"):
        assert words in text


def test_an_unfinished_run_shows_its_progress(trained_run: Path, sslkit: Shown) -> None:
    run = copied(trained_run, "report-cut")
    for folder in ("features", "knn"):
        shutil.rmtree(run / folder)
    record = unsealed(run / "pretrain" / "stage.json")
    del record["results"], record["seconds"], record["outputs"], record["peak_memory_mb"]
    (run / "pretrain" / "stage.json").write_text(json.dumps({**record, "status": "running"}))
    assert sslkit("report", run)[0] == 0
    text = Elements((run / "report.html").read_text()).text
    words = (
        "Unfinished: pretrain: rerun the same command to resume.",
        "never run",
        "not finished",
        "2 of 2",
        "Loss: dino",
    )
    for expected in words:
        assert expected in text
    assert "Accuracy on val" not in text


@pytest.mark.usefixtures("no_curves")
def test_failed_and_stale_stages_are_noted_with_their_commands(trained_run: Path, sslkit: Shown) -> None:
    runs = [copied(trained_run, f"report-broken-{name}") for name in "ab"]
    shutil.copytree(runs[0] / "knn", runs[0] / "linear")
    change(runs[0] / "knn" / "stage.json", command="sslkit knn RUN --k 5")
    change(runs[0] / "features" / "features.json", precision="other")
    record = unsealed(runs[0] / "linear" / "stage.json")
    del record["results"]
    record |= {"status": "failed", "error": "no <room> left", "command": "sslkit linear RUN", "inputs": {}}
    (runs[0] / "linear" / "stage.json").write_text(json.dumps(record))
    for name, top1 in zip("ab", (90.0, 10.0), strict=True):
        knn = trained_run.with_name(f"report-broken-{name}") / "knn" / "stage.json"
        change(knn, results={**unsealed(knn)["results"], "top1": top1})
    shutil.copytree(runs[1] / "knn", runs[1] / "neighbours")
    out = trained_run.with_name("broken.html")
    assert sslkit("report", *runs, "--out", out)[0] == 0
    page = Elements(out.read_text())
    assert "Failed: report-broken-a: linear: no <room> left. Fix that, then rerun the same command" in page.text
    overview = out.read_text().partition('id="results"')[0]
    assert "<code>sslkit linear RUN</code>" in overview
    assert "<code>sslkit knn RUN --k 5 --force</code>" in overview
    assert "Stale: report-broken-a: k-NN: features changed since" in page.text
    # A stale value is marked in its cell; neighbours only shows images; a value without a rival is not the highest.
    assert re.search(r'90\.0 <span class="badge warn">stale</span>', out.read_text())
    for absent in ("<b>10.0</b>", "<b>90.0"):
        assert absent not in out.read_text()
    for absent in ("Bold", "neighbours (%)"):
        assert absent not in page.text
    assert "<title>report-broken-a, report-broken-b: report" in out.read_text()


@pytest.mark.usefixtures("no_curves")
def test_a_run_without_an_accuracy_of_another_is_noted_with_the_commands_that_are_missing(
    trained_run: Path, tmp_path: Path, sslkit: Shown
) -> None:
    runs = [copied(trained_run, f"report-unequal-{name}") for name in "abcd"]
    for run in runs[1:]:
        shutil.rmtree(run / "knn")
    shutil.rmtree(runs[2] / "features")
    shutil.rmtree(runs[3])
    write_features(runs[3], ((), ()), ((), ()))  # of another program
    shutil.copytree(runs[0] / "knn", runs[3] / "neighbours")
    out = trained_run.with_name("unequal.html")
    assert sslkit("report", *runs, "--out", out)[0] == 0
    overview = Elements(out.read_text().partition('id="results"')[0])
    named = ", ".join(run.name for run in runs[1:])
    assert f"Not evaluated: {named} have no k-NN accuracy yet, though another run does." in overview.text
    assert overview.text.count("Not evaluated") == 1
    lines = [f"sslkit knn {runs[1]}", f"sslkit extract {runs[2]} && sslkit knn {runs[2]}", f"sslkit knn {runs[3]}"]
    assert "\n".join(lines) in overview.text
    assert sslkit("report", runs[1], "--out", out)[0] == 0
    assert "Not evaluated" not in out.read_text()


@pytest.mark.parametrize("words", [["missing"], ["empty"], ["empty", "--out", "page.pdf"]])
def test_a_path_that_is_not_a_run_is_one_line_of_error(
    words: list[str], tmp_path: Path, monkeypatch: Any, sslkit: Shown
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = sslkit("report", *words)
    assert code in (1, 2)
    assert (out, err.count("\n")) == ("", 1)
    assert words[-1] in err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["empty"]


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def tab(request: Any, browser: Any, page: Path) -> Any:
    """The report in a browser; whatever goes wrong there fails the test."""
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors = page_errors(opened)
    opened.goto(page.as_uri())
    yield opened
    opened.close()
    assert errors == []


def test_figures_are_drawn_and_the_page_fits_the_window(tab: Any) -> None:
    boxes = tab.evaluate(
        """[...document.querySelectorAll('.plot svg')].map(svg => [svg.getBoundingClientRect().width,
        svg.getBoundingClientRect().height, svg.querySelectorAll('path').length])"""
    )
    assert boxes
    assert all(width > 100 and height > 30 and paths > 3 for width, height, paths in boxes)
    assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    dark = tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = tab.evaluate("getComputedStyle(document.querySelector('.plot svg text')).fill")
    assert (ground, ink) == (
        ("rgb(20, 22, 27)", "rgb(232, 234, 240)") if dark else ("rgb(255, 255, 255)", "rgb(29, 31, 36)")
    )
    tab.set_viewport_size({"width": 360, "height": 700})
    assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_a_curve_is_read_off_by_pointer_and_by_keys(tab: Any, runs: list[Path]) -> None:
    rows = [json.loads(line) for line in (runs[0] / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    plot = tab.locator("[data-chart=curve-1]")
    plot.scroll_into_view_if_needed()
    x, y = plot.evaluate(
        """(plot) => { const d = JSON.parse(plot.parentElement.querySelector('script').textContent), line = d.lines[0];
        const [l, t, r, b] = d.box, part = (v, [lo, hi]) => (v - lo) / (hi - lo);
        const at = new DOMPoint(l + part(line.x[3], d.x) * (r - l), b - part(line.y[3], d.y) * (b - t));
        const seen = at.matrixTransform(plot.querySelector('svg').getScreenCTM()); return [seen.x, seen.y]; }"""
    )
    tab.mouse.move(x, y)
    assert float(plot.locator(".here b").inner_text()) == pytest.approx(losses[3], rel=1e-3)
    assert plot.locator(".here span").inner_text() in ("report-a", ODD)
    tab.mouse.move(0, 0)
    assert not plot.locator(".reading").is_visible()
    tab.keyboard.press("Tab")  # the keyboard is in use: a figure that is reached shows its last value
    plot.focus()
    said = plot.locator("xpath=..").locator("[role=status]")
    assert float(said.inner_text().rpartition(": ")[2]) == pytest.approx(losses[-1], rel=1e-3)
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowRight")
    assert float(said.inner_text().rpartition(": ")[2]) == pytest.approx(losses[1], rel=1e-3)
    tab.keyboard.press("ArrowDown")
    assert said.inner_text().startswith(ODD)
    tab.keyboard.press("Escape")
    assert not plot.locator(".reading").is_visible()


def test_a_button_hides_its_line_in_every_figure(tab: Any) -> None:
    lines = tab.locator("[id^=curve-][id$=-line-0]")
    assert lines.count() > 3
    assert lines.first.is_visible()
    button = tab.locator(".legend button").first
    button.focus()
    tab.keyboard.press("Enter")
    assert not any(lines.nth(n).is_visible() for n in range(lines.count()))
    assert tab.locator("[id=curve-1-line-1]").is_visible()
    assert {b.get_attribute("aria-pressed") for b in tab.locator("[data-run='0']").all()} == {"false"}
    button.click()
    assert lines.first.is_visible()
    assert button.get_attribute("aria-pressed") == "true"


def test_a_picture_is_enlarged_and_put_back_by_keys(tab: Any) -> None:
    button = tab.locator(".enlarge").first
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("dialog img").is_visible()
    # A picture that would be too small to read keeps its size and scrolls in its frame.
    assert tab.evaluate("document.querySelector('dialog .frame').getBoundingClientRect().right <= innerWidth")
    assert tab.evaluate("(i => i.clientWidth / i.naturalWidth >= .7)(document.querySelector('dialog img'))")
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog").is_visible()
    assert button.evaluate("(button) => button === document.activeElement")


def test_a_command_is_copied_or_at_least_selected(tab: Any) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    # What is said vanishes after seconds: the page itself notes it.
    tab.evaluate(
        """() => { const said = document.getElementById('said');
        const note = () => { window.heard ??= [said.textContent, getSelection().toString()]; };
        new MutationObserver(note).observe(said, { childList: true }); }"""
    )
    tab.locator(".copy").first.click()
    said, chosen = tab.wait_for_function("window.heard").json_value()
    assert said == "Copied" or chosen.startswith("sslkit ")


def test_paper_is_light_and_has_no_controls(tab: Any) -> None:
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("nav").is_visible()
    assert not tab.locator(".copy").first.is_visible()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
