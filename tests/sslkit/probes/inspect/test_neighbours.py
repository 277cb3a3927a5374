"""`sslkit neighbours`: brute force finds the same neighbours, a loop counts the same confusions, a page shows them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser_fixture import page_errors
from conftest import write_features
from PIL import Image

from sslkit.data.shards import open_split
from sslkit.errors import SslkitError, UsageError
from sslkit.plots.inspect.neighbours import RIGHT, WRONG, classes_shown, confusion_figure, framed
from sslkit.probes.features.features import Features
from sslkit.probes.inspect.neighbours import choose_queries, most_confused, nearest
from sslkit.probes.segmentation.confusion import confusion
from stages.contract.layout import Run


def split(features: np.ndarray, labels: np.ndarray) -> Features:
    rows = np.flatnonzero(labels >= 0)
    return Features(Path("cls.npy"), (features,), labels[rows], rows)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Labels of three classes, and predictions of which a third is wrong."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    return labels, np.where(random.random(60) < 0.34, (labels + random.integers(1, 3, 60)) % 3, labels)


def test_neighbours_are_those_of_brute_force():
    random = np.random.default_rng(0)
    train, val = (random.normal(size=(n, 5)).astype(np.float32) for n in (30, 8))
    train_labels, val_labels = random.integers(-1, 3, 30), random.integers(-1, 3, 8)
    bank, queries = split(train, train_labels), split(val, val_labels)
    cosine, found = nearest(bank, queries, np.array([2, 0]), 4)
    for q, position in enumerate((2, 0)):
        query = val[queries.rows[position]]
        every = train @ query / np.linalg.norm(train, axis=1) / np.linalg.norm(query)
        every[train_labels < 0] = -2  # no labelled image, no neighbour
        expected = np.argsort(-every)[:4]
        assert bank.rows[found[q]].tolist() == expected.tolist()
        np.testing.assert_allclose(cosine[q], every[expected], rtol=1e-5)
    with pytest.raises(UsageError, match=r"--k 31: train has \d+ labelled images"):
        nearest(bank, queries, np.array([0]), 31)


def test_confusions_are_counted_as_by_a_loop(drawn):
    labels, predicted = drawn
    counts = confusion(labels, predicted, 3)
    expected = np.zeros((3, 3), int)
    for true, other in zip(labels, predicted, strict=True):
        expected[true, other] += 1
    assert np.array_equal(counts, expected)
    pairs = most_confused(counts, 10)
    assert len(pairs) == 6 and [p["count"] for p in pairs] == sorted((p["count"] for p in pairs), reverse=True)
    for pair in pairs:
        assert pair["true"] != pair["predicted"] and pair["count"] == expected[pair["true"], pair["predicted"]]
        assert pair["share"] == pytest.approx(100 * pair["count"] / (labels == pair["true"]).sum())
    assert most_confused(np.diag([3, 4]), 5) == []


def test_a_class_that_is_only_predicted_has_a_column():
    assert confusion(np.array([0, 1]), np.array([2, 1]), 3).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_queries_are_half_wrong_and_of_all_classes(drawn):
    labels, predicted = drawn
    right = labels == predicted
    chosen = choose_queries(labels, predicted, 12, None, 0)
    assert right[chosen].sum() == 6 and len(set(chosen.tolist())) == 12
    assert np.bincount(labels[chosen]).tolist() == [4, 4, 4]
    assert right[choose_queries(labels, predicted, 9, "right", 0)].all()
    assert not right[choose_queries(labels, predicted, 9, "wrong", 0)].any()
    assert np.array_equal(np.sort(choose_queries(labels, predicted, 99, "any", 0)), np.arange(60))
    assert np.array_equal(chosen, choose_queries(labels, predicted, 12, None, 0))
    assert not np.array_equal(chosen, choose_queries(labels, predicted, 12, None, 1))
    assert len(choose_queries(labels, labels, 4, None, 0)) == 4  # nothing is wrong: all of them are right
    with pytest.raises(SslkitError, match="no wrong image among the 60 of val; try --only any"):
        choose_queries(labels, labels, 4, "wrong", 0)


def test_few_queries_of_many_classes_are_of_different_ones():
    labels = np.arange(400) // 4
    predicted = np.where(np.arange(400) % 2, labels, (labels + 1) % 100)
    chosen = choose_queries(labels, predicted, 20, None, 3)
    assert len(set(labels[chosen].tolist())) == 20


def test_frames_differ_in_colour_and_in_line():
    picture = Image.new("RGB", (32, 32), (200, 200, 200))
    colours = {right: [framed(picture, right).getpixel((x, 2)) for x in range(120)] for right in (True, False)}
    blue, orange = (tuple(int(code[i : i + 2], 16) for i in (1, 3, 5)) for code in (RIGHT, WRONG))
    assert set(colours[True]) == {blue}
    assert set(colours[False]) == {orange, (255, 255, 255)}
    sides = {framed(picture, False).getpixel((x, y)) for x in (2, 119) for y in range(12, 16)}
    assert sides == {(255, 255, 255)}


def test_of_many_classes_the_most_confused_are_drawn():
    counts = np.diag(np.full(50, 9))
    counts[40, 7], counts[7, 30] = 5, 2
    pairs = most_confused(counts, counts.size)
    assert classes_shown(counts, pairs) == [7, 30, 40]
    axes = confusion_figure(counts, [7, 30, 40], [f"c{i}" for i in range(50)]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["82", "18", "100", "36", "64"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["c7", "c30", "c40"]
    assert classes_shown(np.eye(20, dtype=int), []) == list(range(20))


# The stage.


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


def test_results_are_those_of_features_and_predictions(run, look):
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
    assert results["queries"] == 5 and len(results["pictures"]) == 2
    classes = open_split(run.data, "val").classes
    assert {results["pairs"][0]["true"], results["pairs"][0]["predicted"]} <= set(classes)
    assert look("--count", 5, "--k", 3)["up_to_date"]


def test_without_knn_it_is_computed_and_the_same(run, look):
    first = look("--only", "wrong", "--count", 4)
    shutil.rmtree(run.folder("knn"))
    # What k-NN by default would say is what it said: nothing has changed.
    assert look("--only", "wrong", "--count", 4)["up_to_date"]
    again = look("--only", "wrong", "--count", 4, "--force")
    assert again["pairs"] == first["pairs"]


def test_mistakes_are_one_line(run, sslkit, tmp_path, shapes_run):
    def fails(*words: object) -> str:
        code, _, err = sslkit("neighbours", *words)
        assert code and err.count("\n") == 1
        return err

    random = np.random.default_rng(0)
    pair = [(random.normal(size=(30, 4)).astype(np.float32), random.integers(0, 3, 30)) for _ in range(2)]
    other = write_features(tmp_path / "other", *pair)
    assert "has features but no images" in fails(other)
    assert "has 30 rows" in fails(other, "--data", shapes_run)
    assert "is missing: run `sslkit extract" in fails(tmp_path / "empty")
    data = ["--data", shapes_run]
    assert "--k 5000: train has" in fails(run.path, *data, "--k", 5000)
    labels = np.load(run.feature("val", "labels"))
    np.save(run.feature("val", "labels"), labels[::-1])
    assert "has other labels than the val images" in fails(run.path, *data)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_and_says_it_in_words_too(run, look, browser, scheme):
    page_file = Path(look("--count", 3, "--k", 2)["page"])
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    errors = page_errors(page)
    page.goto(page_file.as_uri())
    assert page.locator(".near img").count() == 6 and page.locator(".own").count() == 3
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for item in page.locator(".near li").all():
        assert ("other class:" in item.inner_text()) == (item.get_attribute("class") == "wrong")
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light") and ink != "rgb(0, 0, 0)"
    assert errors == []
    page.close()
