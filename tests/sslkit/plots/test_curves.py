"""The lines that the axes of a metric show, and their figures."""

import math
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from sslkit.plots import curves
from sslkit.plots.figure import as_svg
from sslkit.plots.panels.base import panels


def log(entropy: float = 3.0, *names: str) -> list[dict]:
    """Two log lines of some objectives, K = 64."""
    return [
        {
            "step": 10 * epoch,
            "epoch": epoch,
            "loss": 2.0,
            **{f"{n}/teacher_entropy": entropy + epoch for n in names},
            **{f"{n}/kl": 1 / epoch for n in names},
            **{f"{n}/ln_k": math.log(64) for n in names},
        }
        for epoch in (1, 2)
    ]


def test_each_run_has_a_line_and_only_entropies_are_bounded_by_ln_k() -> None:
    runs = {"a": [log(1.0, "dino")], "b": [log(2.0, "dino")]}
    entropy, kl = (curves.curves_of(metric, runs, "epoch") for metric in ("teacher_entropy", "kl"))
    assert [line.label for line in entropy.lines] == ["a", "b"]
    assert [line.y.tolist() for line in entropy.lines] == [[2.0, 3.0], [3.0, 4.0]]
    assert entropy.lines[0].x.tolist() == [1, 2]
    assert entropy.bounds == [("ln K", pytest.approx(4.1589, abs=1e-4))]
    assert kl.bounds == []
    assert entropy.axis == "teacher entropy h (nats)"
    assert kl.axis == "KL(teacher || student) (nats)"
    # Distinct by colour and, in print, by style.
    assert len({line.colour for line in kl.lines}) == len({line.style for line in kl.lines}) == 2


def test_the_longest_name_of_an_axis_fits_where_curves_have_a_legend_of_three_rows(monkeypatch, tmp_path) -> None:
    metric = max(panels(), key=lambda name: len(panels()[name].axis))
    rows = [{"step": 10 * n, "epoch": n, metric: 0.1 * n} for n in range(30)]
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save_png", lambda figure, path, alt: figures.append(figure))
    curves.draw(
        [curves.curves_of(metric, {f"run {n}": [rows] for n in range(6)}, "epoch")], "epoch", tmp_path / "a.png"
    )
    figures[0].draw_without_rendering()
    extent = figures[0].axes[0].yaxis.label.get_window_extent()
    assert extent.y0 >= 0
    assert extent.y1 <= figures[0].bbox.height


def test_a_short_name_means_every_objective_and_an_exact_one_only_itself() -> None:
    runs = {"a": [log(1.0, "dino", "ibot")], "b": [log(2.0, "dino")]}
    lines = curves.curves_of("kl", runs, "epoch").lines
    assert [line.label for line in lines] == ["a: dino", "a: ibot", "b: dino"]
    assert [line.colour for line in lines] == [0, 0, 1]
    assert [line.style for line in lines] == [0, 1, 0]
    assert [line.label for line in curves.curves_of("ibot/kl", runs, "epoch").lines] == ["a"]
    assert curves.matching("loss", ["loss", "dino/loss"]) == ["loss"]


def test_seeds_are_a_mean_in_their_range_and_interpolated_where_they_log_at_other_moments() -> None:
    rows = [[{"epoch": e, "knn": value + e} for e in epochs] for value, epochs in ((1, (1, 2, 3)), (5, (1, 3, 5)))]
    (line,) = curves.curves_of("knn", {"a": rows}, "epoch").lines
    assert line.label == "a (2 seeds)"
    assert line.x.tolist() == [1, 2, 3]
    assert line.low is not None
    assert line.high is not None
    assert line.y.tolist() == [4, 5, 6]
    assert line.low.tolist() == [2, 3, 4]
    assert line.high.tolist() == [6, 7, 8]


def test_a_value_that_is_not_finite_is_a_gap_and_a_skipped_step_is_no_point() -> None:
    rows = [{"step": 1, "epoch": 1, "loss": 1.0}, {"step": 2, "skipped": "not finite", "samples": [3]}]
    rows += [{"step": 3, "epoch": 3, "loss": None, "warnings": ["x"]}, {"step": 4, "epoch": 4, "loss": 2}]
    assert curves.metrics([rows]) == ["loss"]
    assert curves.clock([rows]) == "epoch"
    assert curves.clock([[{"step": 1, "loss": 1}]]) == "step"
    (line,) = curves.curves_of("loss", {"a": [rows]}, "epoch").lines
    assert line.x.tolist() == [1, 3, 4]
    assert np.array_equal(line.y, [1, np.nan, 2], equal_nan=True)


def test_lines_of_one_point_have_different_markers_and_an_axis_from_zero() -> None:
    rows = [{"epoch": 1.0, "step": 4, "dino/kl": 1.0, "ibot/kl": 2.0}]
    figure = curves.small_figure(curves.curves_of("kl", {"a": [rows]}, "epoch"), "epoch")
    assert len({str(line.get_marker()) for line in figure.axes[0].lines}) == 2
    left, right = figure.axes[0].get_xlim()
    assert left == 0
    assert right > 1


def test_a_thinned_line_keeps_its_ends_and_extremes_and_invents_nothing() -> None:
    x, y = np.arange(5000.0), np.random.default_rng(0).normal(size=5000)
    y[100], y[3001], y[4000] = 50, -50, np.nan
    line = curves.thin(curves.Line("a", x, y, low=y - 1, high=y + 1), 200)
    assert len(line.x) <= 200
    assert {0.0, 4999.0, 100.0, 3001.0} <= set(line.x.tolist())
    assert line.low is not None
    assert line.high is not None
    for px, py, low, high in zip(line.x, line.y, line.low, line.high, strict=True):
        assert np.array_equal([py, low, high], [y[int(px)], y[int(px)] - 1, y[int(px)] + 1], equal_nan=True)
    short = curves.Line("a", x[:10], y[:10])
    assert curves.thin(short) is short


def test_the_frame_is_where_the_data_are_drawn() -> None:
    content = curves.Curves("y", [curves.Line("a", np.array([1.0, 2, 3]), np.array([5.0, 9, 7]))])
    figure = curves.small_figure(content, "epoch")
    svg = as_svg(figure, "alt", "one")
    frame = curves.frame(figure)
    path = svg[svg.index('id="one-line-0"') :]
    drawn = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)[:3], float)
    left, top, right, bottom = frame["box"]
    told = [
        (left + (x - frame["x"][0]) / np.subtract(*frame["x"][::-1]) * (right - left),
         bottom - (y - frame["y"][0]) / np.subtract(*frame["y"][::-1]) * (bottom - top))
        for x, y in ((1, 5), (2, 9), (3, 7))
    ]  # fmt: skip
    assert drawn == pytest.approx(np.array(told), abs=0.05)
    assert "<style" not in svg
    assert "currentColor" in svg
    assert "var(--series-0, #0072B2)" in svg


@pytest.mark.parametrize("points", [1, 2, 30])
def test_the_name_of_an_axis_has_one_line_away_from_the_panel_next_to_it(monkeypatch, tmp_path, points) -> None:
    rows = [{"step": n, "epoch": n + 1, "loss": 10.0 + n, "knn": 16.0 + n} for n in range(points)]
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save_png", lambda figure, path, alt: figures.append(figure))
    curves.draw([curves.curves_of(m, {"a": [rows]}, "epoch") for m in ("loss", "knn")], "epoch", tmp_path / "a.png")
    figures[0].draw_without_rendering()
    left, right = figures[0].axes
    assert "\n" not in right.get_ylabel()
    gap = right.yaxis.label.get_window_extent().x0 - left.get_window_extent().x1
    assert gap > 0.25 * figures[0].dpi


@pytest.mark.parametrize("runs", [1, 12])
def test_the_name_of_an_axis_is_drawn_whole_above_a_legend_of_many_runs(monkeypatch, tmp_path, runs) -> None:
    rows = [{"step": n, "epoch": n + 1, "masked_on_object": 0.5 + n / 9, "knn": 16.0 + n} for n in range(3)]
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save_png", lambda figure, path, alt: figures.append(figure))
    for metric in ("masked_on_object", "knn"):
        named = {f"run-{number}": [rows] for number in range(runs)}
        curves.draw([curves.curves_of(metric, named, "epoch")], "epoch", tmp_path / "a.png")
    for figure in figures:
        figure.draw_without_rendering()
        (axes,) = figure.axes
        name = axes.yaxis.label.get_window_extent()
        assert figure.bbox.y0 <= name.y0 < name.y1 <= figure.bbox.y1, axes.get_ylabel()
