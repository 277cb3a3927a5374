"""`sslkit embed`: positions belong to their rows, and the page shows the image of every point."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from browser_fixture import page_errors
from conftest import write_features
from sklearn.decomposition import PCA

from sslkit.data.shards import open_split
from stages.contract.layout import Run


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


def test_positions_agree_with_pca_of_their_rows(run, look):
    results = look()
    with np.load(run.folder("embed") / "positions.npz") as arrays:
        kept = dict(arrays)
    labels, cls = (np.load(run.feature("val", name)) for name in ("labels", "cls"))
    assert np.array_equal(kept["labels"], labels[kept["rows"]])
    assert len(kept["rows"]) == results["images"] == 40
    unit = torch.nn.functional.normalize(torch.from_numpy(cls[kept["rows"]])).numpy()
    np.testing.assert_allclose(np.abs(kept["pca"]), np.abs(PCA(2).fit_transform(unit)), atol=1e-4)
    assert 0.5 < results["maps"]["pca"]["trustworthiness"] <= 1
    assert [p["file"] for p in results["pictures"]] == ["pca.png"]
    assert "40 images" in results["pictures"][0]["alt"]
    assert look()["up_to_date"]


def test_other_settings_are_refused_and_train_can_be_mapped(run, look, sslkit):
    look()
    code, _, err = sslkit("embed", run.path, "--data", run.data.parent, "--count", 40, "--method", "pca", "--seed", 3)
    assert code == 1
    assert "seed was 0, now 3" in err
    assert look("--split", "train", "--force")["split"] == "train"
    # Methods may be repeated, or separated by commas.
    twice = look("--method", "tsne,pca", "--perplexity", 5, "--count", 12, "--force")
    assert list(twice["maps"]) == ["pca", "tsne"]
    look("--split", "train", "--force")
    # The page's names are the images' own.
    images = open_split(run.data, "train")
    with np.load(run.folder("embed") / "positions.npz") as arrays:
        assert images.source_name(int(arrays["rows"][0])) in (run.folder("embed") / "index.html").read_text()


def test_features_of_another_program_and_without_labels(sslkit, tmp_path, browser):
    random = np.random.default_rng(0)
    split = random.normal(size=(12, 4)).astype(np.float32), np.where(np.arange(12) < 4, 3, -1)
    run = write_features(tmp_path / "other", split, split)
    code, out, err = sslkit("embed", run, "--method", "tsne", "--perplexity", 4)
    assert code == 0
    assert "12 images, 2 classes" in out
    missing = f"{run}/data/manifest.json is missing, so the map has no images"
    assert err == f"{missing}; name the run that holds them with --data RUN\n"
    page = browser.new_page()
    errors = page_errors(page)
    page.goto((run / "embed" / "index.html").as_uri())
    page.locator(".map").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".tip b").inner_text() in ("class 3", "unlabelled")
    assert errors == []
    assert not page.locator(".thumb").count()
    assert not page.locator(".methods").is_visible()
    page.close()


def test_mistakes_are_one_line(run, sslkit, tmp_path, shapes_run):
    def fails(*words: object) -> str:
        run.folder("embed").mkdir(exist_ok=True)
        (run.folder("embed") / "older").write_text("")
        code, _, err = sslkit("embed", *words)
        assert code
        assert err.count("\n") == 1
        assert [path.name for path in run.folder("embed").iterdir()] == ["older"]  # nothing was added or removed
        return err

    data = [run.path, "--data", shapes_run, "--force"]
    assert "--method lda: name one or more" in fails(*data, "--method", "lda")
    assert "--perplexity 30 must be at least 1 and below" in fails(*data, "--count", 20)
    (tmp_path / "empty").mkdir()
    assert "sslkit extract" in fails(tmp_path / "empty")
    cls = np.load(run.feature("val", "cls"))
    np.save(run.feature("val", "cls"), np.full_like(cls, np.nan))
    assert "cls.npy is damaged" in fails(*data, "--method", "pca")
    for record in ("features.json", "stage.json"):  # without them, the features are those of another program
        (run.folder("extract") / record).unlink()
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


def tip_text(page) -> tuple[str, str]:
    tip = page.locator(".tip")
    return tip.locator("b").text_content(), tip.locator("small").text_content()


def test_hover_shows_the_image_and_its_class(page):
    data = json.loads(page.locator("#data").text_content())
    assert page.locator(".points path").count() == 40
    assert not page.locator(".tip").is_visible()
    # The outermost point: no other covers it.
    i = int(np.argmax(data["maps"][0]["x"]))
    page.mouse.move(*centre(page, i))
    assert tip_text(page) == (data["classes"][data["class"][i]]["name"], data["names"][i])
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
    seen = [tip_text(page)[1]]
    data = json.loads(page.locator("#data").text_content())
    for _ in range(40):
        page.keyboard.press("ArrowRight")
        seen.append(tip_text(page)[1])
    x = [data["maps"][0]["x"][data["names"].index(name)] for name in seen]
    assert x == sorted(x)
    assert x[0] < x[-1] == max(data["maps"][0]["x"])
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
    # The pointer does not find faded points.
    i = next(i for i in np.argsort(data["maps"][0]["x"])[::-1].tolist() if off[i])
    page.mouse.move(*centre(page, i))
    assert not page.locator(".tip").is_visible() or tip_text(page)[0] == data["classes"][1]["name"]
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
