"""Curves over training: which lines a figure has, and the command that draws it."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslkit.files import read_rows
from sslkit.plots import curves


def write(run: Path, rows: list[dict]) -> Path:
    path = run / "pretrain" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


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


def size(path: Path) -> tuple[int, int]:
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        return picture.size


def test_a_line_for_each_run_and_ln_k_beside_the_entropy_only() -> None:
    runs = {"a": [log(1.0, "dino")], "b": [log(2.0, "dino")]}
    entropy, kl = (curves.panel(metric, runs, "epoch") for metric in ("teacher_entropy", "kl"))
    assert [line.label for line in entropy.lines] == ["a", "b"]
    assert [line.y.tolist() for line in entropy.lines] == [[2.0, 3.0], [3.0, 4.0]]
    assert entropy.lines[0].x.tolist() == [1, 2]
    assert entropy.ceilings == [pytest.approx(4.1589, abs=1e-4)] and kl.ceilings == []
    assert "nats" in entropy.label and "nats" in kl.label
    # Told apart by colour and, in print, by style.
    assert len({line.colour for line in kl.lines}) == len({line.style for line in kl.lines}) == 2


def test_a_short_name_stands_for_every_objective_and_an_exact_one_for_itself() -> None:
    runs = {"a": [log(1.0, "dino", "ibot")], "b": [log(2.0, "dino")]}
    lines = curves.panel("kl", runs, "epoch").lines
    assert [line.label for line in lines] == ["a: dino", "a: ibot", "b: dino"]
    assert [line.colour for line in lines] == [0, 0, 1] and [line.style for line in lines] == [0, 1, 0]
    assert [line.label for line in curves.panel("ibot/kl", runs, "epoch").lines] == ["a"]
    assert curves.matching("loss", ["loss", "dino/loss"]) == ["loss"]


def test_seeds_are_a_mean_in_their_range_and_uneven_ones_are_read_off_between() -> None:
    rows = [[{"epoch": e, "knn": value + e} for e in epochs] for value, epochs in ((1, (1, 2, 3)), (5, (1, 3, 5)))]
    (line,) = curves.panel("knn", {"a": rows}, "epoch").lines
    assert line.label == "a (2 seeds)"
    assert line.x.tolist() == [1, 2, 3]
    assert line.low is not None and line.high is not None
    assert line.y.tolist() == [4, 5, 6] and line.low.tolist() == [2, 3, 4] and line.high.tolist() == [6, 7, 8]


def test_what_was_not_finite_is_a_gap_and_a_skipped_step_nothing() -> None:
    rows = [{"step": 1, "epoch": 1, "loss": 1.0}, {"step": 2, "skipped": "not finite", "samples": [3]}]
    rows += [{"step": 3, "epoch": 3, "loss": None, "warnings": ["x"]}, {"step": 4, "epoch": 4, "loss": 2}]
    assert curves.metrics([rows]) == ["loss"]
    assert curves.clock([rows]) == "epoch" and curves.clock([[{"step": 1, "loss": 1}]]) == "step"
    (line,) = curves.panel("loss", {"a": [rows]}, "epoch").lines
    assert line.x.tolist() == [1, 3, 4]
    assert np.array_equal(line.y, [1, np.nan, 2], equal_nan=True)


def test_series_of_one_point_are_told_apart_and_begin_at_the_start() -> None:
    rows = [{"epoch": 1.0, "step": 4, "dino/kl": 1.0, "ibot/kl": 2.0}]
    figure = curves.small_figure(curves.panel("kl", {"a": [rows]}, "epoch"), "epoch")
    assert len({str(line.get_marker()) for line in figure.axes[0].lines}) == 2
    assert figure.axes[0].get_xlim()[0] == 0 and figure.axes[0].get_xlim()[1] > 1


def test_a_log_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"step": 1}\n{"ste')
    assert read_rows(tmp_path / "log") == [{"step": 1}]


def test_the_command_draws_the_collapse_figure(sslkit, tmp_path: Path) -> None:
    runs = [write(tmp_path / name, log(i, "dino")) for i, name in enumerate(("a-s0", "a-s1", "b"))]
    picture = tmp_path / "figures" / "out.png"
    code, out, err = sslkit("curves", *runs, "--out", picture)
    assert (code, out, err) == (0, f"{picture}\n", "")
    wide, tall = size(picture)
    assert wide > 1.5 * tall
    code, out, _ = sslkit("curves", *runs, "--out", picture, "--seeds", "--json")
    assert json.loads(out)["runs"] == {"a": 2, "b": 1} and json.loads(out)["metrics"] == ["teacher_entropy", "kl"]
    assert sslkit("curves", *runs, "--out", picture, *(["--metric", "loss"] * 4))[0] == 0
    assert size(picture)[1] > tall


def test_a_run_without_the_metric_is_named_and_an_unknown_one_is_an_error(sslkit, tmp_path: Path) -> None:
    runs = [write(tmp_path / "a", log(1, "dino")), write(tmp_path / "b", log(1))]
    picture = tmp_path / "out.png"
    code, _, err = sslkit("curves", *runs, "--out", picture, "--metric", "kl")
    assert code == 0 and err == "note: b logged no kl; it has no line there\n"
    picture.unlink()
    code, out, err = sslkit("curves", *runs, "--out", picture, "--metric", "teacher_entropi")
    assert (code, out) == (2, "") and err == (
        "sslkit: no run logged 'teacher_entropi': did you mean 'teacher_entropy'?\n"
    )
    assert sslkit("curves", *runs, "--out", tmp_path / "out.pdf")[0] == 2
    assert not picture.exists()
    code, _, err = sslkit("curves", tmp_path / "none", "--out", picture)
    assert code == 1 and "sslkit pretrain" in err
    code, _, err = sslkit("curves", write(tmp_path / "new", []), "--out", picture)
    assert code == 1 and "no row yet" in err
