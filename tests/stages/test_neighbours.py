"""`sslkit neighbours`: results agree with features and predictions, and a page shows them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser_fixture import page_errors
from conftest import write_features

from sslkit.data.shards import open_split
from stages.contract.layout import Run


@pytest.fixture
def run(trained_run: Path, shapes_run: Path, tmp_path: Path) -> Run:
    shutil.copytree(trained_run, tmp_path / "run")
    return Run(tmp_path / "run", shapes_run)


@pytest.fixture
def look(run, sslkit):
    def call(*words: object) -> dict:
        code, out, err = sslkit("neighbours", run.path, "--data", run.data.parent, "--json", *words)
        assert code == 0, err
        return json.loads(out)

    return call


def test_results_agree_with_features_and_predictions(run, look):
    results = look("--count", 5, "--k", 3)
    kept = json.loads(run.results("neighbours").read_text())
    train, val = (np.load(run.feature(name, "cls")) for name in ("train", "val"))
    with np.load(run.predictions("knn")) as arrays:
        predicted = dict(zip(arrays["rows"].tolist(), arrays["predicted"].tolist(), strict=True))
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    for row in kept["shown"]:
        order = np.argsort(-(unit @ val[row["row"]]), kind="stable")[:3]
        assert [near["row"] for near in row["neighbours"]] == order.tolist()
        assert row["predicted"] == predicted[row["row"]]
    assert results["queries"] == 5
    assert len(results["pictures"]) == 2
    classes = open_split(run.data, "val").classes
    assert {results["pairs"][0]["true"], results["pairs"][0]["predicted"]} <= set(classes)
    assert look("--count", 5, "--k", 3)["up_to_date"]


def test_without_knn_it_is_computed_and_the_same(run, look):
    first = look("--only", "wrong", "--count", 4)
    shutil.rmtree(run.folder("knn"))
    # k-NN with default settings predicts the same, so nothing has changed.
    assert look("--only", "wrong", "--count", 4)["up_to_date"]
    again = look("--only", "wrong", "--count", 4, "--force")
    assert again["pairs"] == first["pairs"]


def test_mistakes_are_one_line(run, sslkit, tmp_path, shapes_run):
    def fails(*words: object) -> str:
        code, _, err = sslkit("neighbours", *words)
        assert code
        assert err.count("\n") == 1
        return err

    random = np.random.default_rng(0)
    pair = [(random.normal(size=(30, 4)).astype(np.float32), random.integers(0, 3, 30)) for _ in range(2)]
    other = write_features(tmp_path / "other", *pair)
    assert "has features but no images" in fails(other)
    assert "has 30 rows" in fails(other, "--data", shapes_run)
    (tmp_path / "empty").mkdir()
    assert "is missing: run `sslkit extract" in fails(tmp_path / "empty")
    data = ["--data", shapes_run]
    assert "--k 5000: train has" in fails(run.path, *data, "--k", 5000)
    labels = np.load(run.feature("val", "labels"))
    np.save(run.feature("val", "labels"), labels[::-1])
    assert "labels.npy is damaged" in fails(run.path, *data)
    (run.features / "stage.json").unlink()  # features of another program
    run.features_info.unlink()
    assert "has other labels than the val images" in fails(run.path, *data)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_and_marks_classes_in_words_too(run, look, browser, scheme):
    page_file = Path(look("--count", 3, "--k", 2)["page"])
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    errors = page_errors(page)
    page.goto(page_file.as_uri())
    assert page.locator(".near img").count() == 6
    assert page.locator(".own").count() == 3
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for item in page.locator(".near li").all():
        assert ("other class:" in item.inner_text()) == (item.get_attribute("class") == "wrong")
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert ink != "rgb(0, 0, 0)"
    assert errors == []
    page.close()


@pytest.mark.parametrize(("only", "which"), [("wrong", "all of which k-NN gets wrong"), (None, "2 of which k-NN gets")])
def test_the_share_of_right_neighbours_says_of_which_queries_it_is(run, sslkit, only, which):
    words = ["--only", only] if only else []
    code, out, err = sslkit("neighbours", run.path, "--data", run.data.parent, "--count", 4, *words)
    assert code == 0, err
    assert f"4 queries, {which}" in out
    page = run.folder("neighbours") / "index.html"
    assert f"4 images of val, {which}" in page.read_text().replace("\u00a0", " ")
