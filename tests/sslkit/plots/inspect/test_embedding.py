"""Maps of features as figures and thumbnails: classes differ in look, and points are where they should be."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslkit.plots.inspect import embedding as plots
from sslkit.plots.inspect.embedding import PAIRS, map_figure, points_by_class, thumbnail_sheet
from sslkit.probes.features.features import Features
from sslkit.probes.inspect.embedding import FeatureMap, embed, unit_rows


def features(rows: np.ndarray) -> Features:
    return Features(Path("cls.npy"), (rows,), np.zeros(len(rows), np.int64), np.arange(len(rows)))


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """60 unit vectors around three corners, in turns."""
    random = np.random.default_rng(0)
    rows = (0.15 * random.normal(size=(60, 8)) + np.eye(3, 8)[np.arange(60) % 3]).astype(np.float32)
    return unit_rows(features(7 * rows), np.arange(60))


def test_no_two_of_36_classes_look_alike():
    found = points_by_class(np.arange(40), [f"c{i}" for i in range(40)])
    assert len({(g.colour, g.marker) for g in found[:PAIRS]}) == PAIRS == 36
    first = found[:6]
    assert len({g.colour for g in first}) == len({g.marker for g in first}) == 6
    # A class looks the same whichever others occur.
    assert points_by_class(np.array([9, -1, 9]), ["?"] * 10)[0].marker == found[9].marker


def test_unlabelled_points_are_grey_and_last():
    found = points_by_class(np.array([1, -1, 0, -1]), ["a", "b"])
    assert [(g.name, g.points.tolist()) for g in found] == [("a", [2]), ("b", [0]), ("unlabelled", [1, 3])]
    assert found[-1].colour is None


def test_the_figure_shows_every_point_at_its_position(blobs):
    drawn = embed(blobs, "pca", 0)
    classes = points_by_class(np.arange(60) % 3, ["a", "b", "c"])
    figure = map_figure(drawn, classes)
    axes = figure.axes[0]
    for group, points in zip(classes, axes.collections, strict=True):
        np.testing.assert_allclose(points.get_offsets(), drawn.positions[group.points])
    assert axes.get_xlabel() == drawn.axes[0]
    assert len(figure.legends[0].get_texts()) == 3
    many = points_by_class(np.arange(60), [f"c{i}" for i in range(60)])
    assert not map_figure(drawn, many).legends


@pytest.mark.parametrize(("name", "columns"), [("n034457{:02d}", 4), ("a{}", 5), ("a class with a name {} " * 3, 1)])
def test_the_legend_is_within_the_figure(name, columns):
    labels = np.arange(72) % 36
    positions = np.stack([labels, labels % 7 * 35 / 6], 1).astype(np.float32)
    drawn = FeatureMap("tsne", positions, ("x", "y"), 0.9, {"perplexity": 30.0})
    figure = map_figure(drawn, points_by_class(labels, [name.format(i, i, i) for i in range(36)]))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    assert box.y1 < axes.y0
    assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == columns
    assert axes.height > 0.8 * 6.4 * figure.dpi  # the legend takes nothing from the map


def test_thumbnails_are_in_rows_and_within_the_budget(monkeypatch):
    shades = [Image.new("RGB", (32, 32), (10 * i, 0, 0)) for i in range(7)]
    made = thumbnail_sheet(shades)
    sheet = np.asarray(Image.open(io.BytesIO(made.jpeg)))
    assert (made.tile, made.columns, sheet.shape) == (48, 3, (144, 144, 3))
    for i in range(7):
        row, column = divmod(i, 3)
        assert abs(int(sheet[48 * row + 24, 48 * column + 24, 0]) - 10 * i) < 6
    noise = np.random.default_rng(0).integers(0, 256, (9, 48, 48, 3), dtype=np.uint8)
    full = len(thumbnail_sheet(map(Image.fromarray, noise)).jpeg)
    monkeypatch.setattr(plots, "BUDGET", full // 2)
    small = thumbnail_sheet(map(Image.fromarray, noise))
    assert len(small.jpeg) <= full // 2
    assert small.tile == 32


@pytest.mark.parametrize("spread", [(40.0, 20.0), (20.0, 40.0), (30.0, 30.0), (1.0, 0.5)])
def test_the_points_fill_the_figure_whichever_range_is_larger(spread):
    positions = (np.random.default_rng(0).uniform(-1, 1, (200, 2)) * spread).astype(np.float32)
    drawn = FeatureMap("tsne", positions, ("x", "y"), 0.9, {"perplexity": 30.0})
    figure = map_figure(drawn, points_by_class(np.arange(200) % 3, ["a", "b", "c"]))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    shares = np.ptp(positions, axis=0) / [np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())]
    assert shares.min() > 0.75
    scale = axes.transData.transform([(0, 0), (1, 1)])
    across, up = scale[1] - scale[0]
    assert across == pytest.approx(up, rel=1e-3)  # equal units
