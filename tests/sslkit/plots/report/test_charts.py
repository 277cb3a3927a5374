"""The charts of a report's training section."""

import pytest

from sslkit.plots.report import charts


def test_sections_leave_out_repeated_losses_and_list_what_was_logged_once() -> None:
    log = [
        {"step": s, "epoch": s, "loss": 1.0 / s, "dino/loss": 1.0 / s, "dino/ln_k": 4.0, "age": s} for s in (1, 2, 3)
    ]
    log[2] |= {"knn": 30.0}
    sections = charts.training({"random": [], "a": [log]})
    assert [section.title for section in sections] == ["Losses", "Accuracy during training", "Other logged metrics"]
    assert [chart.title for chart in sections[0].charts] == ["Loss"]
    assert sections[1].charts == []
    assert sections[1].once == [("k-NN during training", {"a": 30.0})]
    data = sections[0].charts[0].data
    assert data is not None
    # The run without training keeps its place among the colours.
    assert data["lines"][0] | {"x": [1, 2, 3], "run": 1, "name": "a"} == data["lines"][0]
    assert data["lines"][0]["y"] == pytest.approx([1, 1 / 2, 1 / 3], rel=1e-5)
