"""`sslkit embed`: maps that are scikit-learn's, row by row, and a page whose points show their images."""

import io
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from browser_fixture import page_errors
from conftest import write_features
from PIL import Image
from sklearn.decomposition import PCA

from sslkit.data.shards import open_split
from sslkit.errors import SslkitError, UsageError
from sslkit.plots.inspect import embedding as plots
from sslkit.plots.inspect.embedding import PAIRS, groups, map_figure, remarks, sprite
from sslkit.probes.features.features import Features
from sslkit.probes.inspect import embedding
from sslkit.probes.inspect.embedding import Map, chosen_methods, embed, sampled, unit_rows
from stages.contract.layout import Run


def features(rows: np.ndarray) -> Features:
    return Features(Path("cls.npy"), (rows,), np.zeros(len(rows), np.int64), np.arange(len(rows)))


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """60 unit vectors around three corners, by turns."""
    random = np.random.default_rng(0)
    rows = (0.15 * random.normal(size=(60, 8)) + np.eye(3, 8)[np.arange(60) % 3]).astype(np.float32)
    return unit_rows(features(7 * rows), np.arange(60))


def test_rows_are_unit_vectors_of_the_positions_asked_for():
    rows = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    found = unit_rows(features(rows), np.arange(3, 13))
    np.testing.assert_allclose(found, rows[3:13] / np.linalg.norm(rows[3:13], axis=1, keepdims=True), rtol=1e-6)


def test_pca_is_that_of_scikit_learn(blobs):
    drawn = embed(blobs, "pca", 0)
    model = PCA(2, svd_solver="full")
    np.testing.assert_allclose(np.abs(drawn.positions), np.abs(model.fit_transform(blobs)), atol=1e-5)
    assert drawn.axes[0] == f"PC 1 ({100 * model.explained_variance_ratio_[0]:.1f} % of variance)"
    assert drawn.facts["explained"] == pytest.approx((100 * model.explained_variance_ratio_).tolist(), rel=1e-4)


def test_tsne_keeps_clusters_and_is_settled_by_its_seed(blobs, monkeypatch):
    drawn = embed(blobs, "tsne", 0, perplexity=10)
    distance = np.linalg.norm(drawn.positions[:, None] - drawn.positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    # Row i is of corner i mod 3, and so is the point nearest to it: positions are in the order of the rows.
    assert (distance.argmin(1) % 3 == np.arange(60) % 3).mean() > 0.9
    assert drawn.trustworthiness > 0.9 and drawn.facts["kl_divergence"] < 1
    assert np.array_equal(drawn.positions, embed(blobs, "tsne", 0, perplexity=10).positions)
    monkeypatch.setattr(embedding, "COMPONENTS", 5)
    assert embed(blobs, "tsne", 0, perplexity=10).trustworthiness > 0.9
    with pytest.raises(UsageError, match="--perplexity 60: it is from 1 to below the number of points, 60"):
        embed(blobs, "tsne", 0, perplexity=60)


def test_trustworthiness_is_one_of_a_copy_and_less_of_noise():
    plane = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert embedding._trustworthiness(plane, 3 * plane) == 1
    assert embedding._trustworthiness(plane, np.random.default_rng(1).normal(size=(50, 2))) < 0.7


def test_umap_is_asked_for_by_seed_where_it_is_there(blobs, monkeypatch):
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"umap needs the package umap-learn: pip install 'sslkit\[umap\]'"):
        chosen_methods("pca,umap")
    asked = {}

    class Fake:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, rows):
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Fake))
    drawn = embed(blobs, "umap", 7)
    assert (asked["random_state"], asked["n_jobs"]) == (7, 1) and "UMAP (" not in remarks(drawn)
    assert np.array_equal(drawn.positions, blobs[:, :2]) and "mean nothing" in remarks(drawn)
    assert drawn.facts["neighbours"] == asked["n_neighbors"] == 15
    # Of few points there are not so many neighbours, and the facts say how many there were.
    assert embed(blobs[:8], "umap", 7).facts["neighbours"] == asked["n_neighbors"] == 7


@pytest.mark.parametrize("names", ["", ",", "pca,lda"])
def test_unknown_methods_are_named(names):
    with pytest.raises(UsageError, match=f"--method {names}: name one or more of pca, tsne, umap"):
        chosen_methods(names)


def test_methods_keep_their_order():
    assert chosen_methods("tsne, pca,tsne") == ["tsne", "pca"]


def test_features_that_cannot_be_mapped():
    with pytest.raises(SslkitError, match="5 are the fewest"):
        unit_rows(features(np.eye(4, dtype=np.float32)), np.arange(4))
    with pytest.raises(SslkitError, match="all features are alike"):
        unit_rows(features(np.arange(1, 10, dtype=np.float32)[:, None] * np.ones(6, np.float32)), np.arange(9))
    with pytest.raises(SslkitError, match="NaN"):
        unit_rows(features(np.full((9, 2), np.nan, np.float32)), np.arange(9))


def test_samples_ascend_and_differ_by_seed():
    rows = features(np.zeros((50, 1), np.float32))
    chosen = sampled(rows, 20, 0)
    assert len(set(chosen.tolist())) == 20 and (np.diff(chosen) > 0).all()
    assert not np.array_equal(chosen, sampled(rows, 20, 1))
    assert np.array_equal(sampled(rows, 99, 0), np.arange(50))


# Pictures.


def test_no_two_of_36_classes_look_alike():
    found = groups(np.arange(40), [f"c{i}" for i in range(40)])
    assert len({(g.colour, g.marker) for g in found[:PAIRS]}) == PAIRS == 36
    first = found[:6]
    assert len({g.colour for g in first}) == len({g.marker for g in first}) == 6
    # A class looks the same whoever else is there.
    assert groups(np.array([9, -1, 9]), ["?"] * 10)[0].marker == found[9].marker


def test_what_has_no_label_is_grey_and_last():
    found = groups(np.array([1, -1, 0, -1]), ["a", "b"])
    assert [(g.name, g.points.tolist()) for g in found] == [("a", [2]), ("b", [0]), ("unlabelled", [1, 3])]
    assert found[-1].colour is None


def test_the_figure_shows_every_point_where_it_is(blobs):
    drawn = embed(blobs, "pca", 0)
    classes = groups(np.arange(60) % 3, ["a", "b", "c"])
    figure = map_figure(drawn, classes)
    axes = figure.axes[0]
    for group, points in zip(classes, axes.collections, strict=True):
        np.testing.assert_allclose(points.get_offsets(), drawn.positions[group.points])
    assert axes.get_xlabel() == drawn.axes[0] and len(figure.legends[0].get_texts()) == 3
    many = groups(np.arange(60), [f"c{i}" for i in range(60)])
    assert not map_figure(drawn, many).legends


@pytest.mark.parametrize(("name", "columns"), [("n034457{:02d}", 4), ("a{}", 5), ("a class with a name {} " * 3, 1)])
def test_the_legend_is_within_the_figure(name, columns):
    labels = np.arange(72) % 36
    positions = np.stack([labels, labels % 7], 1).astype(np.float32)
    drawn = Map("tsne", positions, ("x", "y"), 0.9, {"perplexity": 30.0})
    figure = map_figure(drawn, groups(labels, [name.format(i, i, i) for i in range(36)]))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 < axes.y0
    assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == columns
    assert axes.height > 0.8 * 6.4 * figure.dpi  # the legend takes nothing from the map


def test_thumbnails_lie_row_by_row_and_fit(monkeypatch):
    shades = [Image.new("RGB", (32, 32), (10 * i, 0, 0)) for i in range(7)]
    made = sprite(shades)
    sheet = np.asarray(Image.open(io.BytesIO(made.jpeg)))
    assert (made.tile, made.columns, sheet.shape) == (48, 3, (144, 144, 3))
    for i in range(7):
        row, column = divmod(i, 3)
        assert abs(int(sheet[48 * row + 24, 48 * column + 24, 0]) - 10 * i) < 6
    noise = np.random.default_rng(0).integers(0, 256, (9, 48, 48, 3), dtype=np.uint8)
    full = len(sprite(map(Image.fromarray, noise)).jpeg)
    monkeypatch.setattr(plots, "BUDGET", full // 2)
    small = sprite(map(Image.fromarray, noise))
    assert len(small.jpeg) <= full // 2 and small.tile == 32


# The stage.


@pytest.fixture
def run(trained_run: Path, shapes_run: Path, tmp_path: Path) -> Run:
    shutil.copytree(trained_run, tmp_path / "run")
    return Run(tmp_path / "run", shapes_run)


@pytest.fixture
def look(run, sslkit):
    def call(*words: object) -> dict:
        given = ["embed", run.path, "--data", run.data.parent, "--json", "--count", 40, "--method", "pca", *words]
        code, out, err = sslkit(*given)
        assert code == 0, err
        return json.loads(out)

    return call


def test_positions_are_those_of_their_rows(run, look):
    results = look()
    with np.load(run.folder("embed") / "positions.npz") as arrays:
        kept = dict(arrays)
    labels, cls = (np.load(run.feature("val", name)) for name in ("labels", "cls"))
    assert np.array_equal(kept["labels"], labels[kept["rows"]]) and len(kept["rows"]) == results["images"] == 40
    unit = torch.nn.functional.normalize(torch.from_numpy(cls[kept["rows"]])).numpy()
    np.testing.assert_allclose(np.abs(kept["pca"]), np.abs(PCA(2).fit_transform(unit)), atol=1e-4)
    assert 0.5 < results["maps"]["pca"]["trustworthiness"] <= 1
    assert [p["file"] for p in results["pictures"]] == ["pca.png"] and "40 images" in results["pictures"][0]["alt"]
    assert look()["up_to_date"]


def test_other_settings_are_refused_and_train_can_be_seen(run, look, sslkit):
    look()
    code, _, err = sslkit("embed", run.path, "--data", run.data.parent, "--count", 40, "--method", "pca", "--seed", 3)
    assert code == 1 and "seed was 0, now 3" in err
    assert look("--split", "train", "--force")["split"] == "train"
    # Methods are given more than once, or with commas.
    twice = look("--method", "tsne,pca", "--perplexity", 5, "--count", 12, "--force")
    assert list(twice["maps"]) == ["pca", "tsne"]
    look("--split", "train", "--force")
    # The page's names are the images' own.
    keys = open_split(run.data, "train").keys
    with np.load(run.folder("embed") / "positions.npz") as arrays:
        assert keys[arrays["rows"][0]] in (run.folder("embed") / "index.html").read_text()


def test_features_of_another_program_and_without_labels(sslkit, tmp_path, browser):
    random = np.random.default_rng(0)
    split = random.normal(size=(12, 4)).astype(np.float32), np.where(np.arange(12) < 4, 3, -1)
    run = write_features(tmp_path / "other", split, split)
    code, out, err = sslkit("embed", run, "--method", "tsne", "--perplexity", 4)
    assert code == 0 and "12 images, 2 classes" in out
    assert (
        err == f"{run}/data/manifest.json is missing: a map without images; --data RUN names the run that holds them\n"
    )
    page = browser.new_page()
    errors = page_errors(page)
    page.goto((run / "embed" / "index.html").as_uri())
    page.locator(".map").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".tip b").inner_text() in ("class 3", "unlabelled") and errors == []
    assert not page.locator(".thumb").count() and not page.locator(".methods").is_visible()
    page.close()


def test_mistakes_are_one_line(run, sslkit, tmp_path, shapes_run):
    def fails(*words: object) -> str:
        run.folder("embed").mkdir(exist_ok=True)
        (run.folder("embed") / "older").write_text("")
        code, _, err = sslkit("embed", *words)
        assert code and err.count("\n") == 1
        assert [path.name for path in run.folder("embed").iterdir()] == ["older"]  # and nothing came or went
        return err

    data = [run.path, "--data", shapes_run, "--force"]
    assert "--method lda: name one or more" in fails(*data, "--method", "lda")
    assert "--perplexity 30: it is from 1 to below" in fails(*data, "--count", 20)
    assert "sslkit extract" in fails(tmp_path / "empty")
    cls = np.load(run.feature("val", "cls"))
    np.save(run.feature("val", "cls"), np.full_like(cls, np.nan))
    assert "holds NaN or infinity" in fails(*data, "--method", "pca")
    np.save(run.feature("val", "cls"), np.zeros((9, 4), np.float32))
    np.save(run.feature("val", "labels"), np.zeros(9, np.int64))
    assert "has 9 rows" in fails(*data, "--method", "pca")


# The page, in a browser.


@pytest.fixture
def page(look, browser):
    path = Path(look("--method", "pca,tsne", "--perplexity", 10)["page"])
    opened = browser.new_page(viewport={"width": 1000, "height": 900})
    errors = page_errors(opened)
    opened.goto(path.as_uri())
    yield opened
    assert errors == []
    opened.close()


def centre(page, i: int) -> tuple[float, float]:
    box = page.locator(".points path").nth(i).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def told(page) -> tuple[str, str]:
    tip = page.locator(".tip")
    return tip.locator("b").text_content(), tip.locator("small").text_content()


def test_hover_shows_the_image_and_its_class(page):
    data = json.loads(page.locator("#data").text_content())
    assert page.locator(".points path").count() == 40
    assert not page.locator(".tip").is_visible()
    # The outermost point: none lies on it.
    i = int(np.argmax(data["maps"][0]["x"]))
    page.mouse.move(*centre(page, i))
    assert told(page) == (data["classes"][data["class"][i]]["name"], data["names"][i])
    style = page.locator(".thumb").evaluate("e => [getComputedStyle(e).backgroundImage, e.style.backgroundPosition]")
    assert style[0].startswith('url("data:image/jpeg')
    columns = data["sprite"]["columns"]
    assert style[1] == f"-{i % columns * 96}px -{i // columns * 96}px".replace("-0px", "0px")
    page.mouse.move(2, 2)
    assert not page.locator(".tip").is_visible()


def test_arrow_keys_move_and_escape_leaves(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.locator(".map").evaluate("e => e === document.activeElement")
    assert page.locator(".tip").is_visible()
    seen = [told(page)[1]]
    data = json.loads(page.locator("#data").text_content())
    for _ in range(40):
        page.keyboard.press("ArrowRight")
        seen.append(told(page)[1])
    x = [data["maps"][0]["x"][data["names"].index(name)] for name in seen]
    assert x == sorted(x) and x[0] < x[-1] == max(data["maps"][0]["x"])
    assert seen[-1] in page.locator("#said").text_content()
    page.keyboard.press("Escape")
    assert not page.locator(".tip").is_visible()
    assert not page.locator(".map").evaluate("e => e === document.activeElement")


def test_a_class_alone(page):
    button = page.locator(".legend .class").nth(1)
    button.focus()
    page.keyboard.press("Space")
    data = json.loads(page.locator("#data").text_content())
    off = page.locator(".points path").evaluate_all("all => all.map(e => e.classList.contains('off'))")
    assert off == [number != 1 for number in data["class"]]
    assert button.get_attribute("aria-pressed") == "true"
    # What is faded is not found by the pointer.
    i = next(i for i in np.argsort(data["maps"][0]["x"])[::-1].tolist() if off[i])
    page.mouse.move(*centre(page, i))
    assert not page.locator(".tip").is_visible() or told(page)[0] == data["classes"][1]["name"]
    page.locator(".legend .all").click()
    assert page.locator(".points .off").count() == 0


def test_the_other_map_and_a_phone(page):
    before = page.locator(".points path").first.get_attribute("transform")
    page.locator(".methods input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".points path").first.get_attribute("transform") != before
    assert "t-SNE 1 (no unit)" in page.locator(".axis").all_text_contents()
    assert "mean nothing" in page.locator(".note").text_content()
    page.set_viewport_size({"width": 390, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".map").bounding_box()["width"] <= 390
