"""The panels of the training log: what every one of them must have, and a file that adds one."""

import textwrap
from pathlib import Path

import pytest

from sslkit.plots import curves, panels
from sslkit.plots.panels import base
from sslkit.plots.report import charts

LOG = [{"step": s, "epoch": s, "loss": 1.0, "memory/queue_age": float(s), "memory/queue_size": 9.0} for s in (1, 2)]


@pytest.mark.parametrize("panel", base.panels().values(), ids=lambda panel: panel.metric)
def test_every_panel_says_what_it_shows(panel: base.Panel) -> None:
    assert panel.axis
    assert panel.title[0].isupper() or panel.title.startswith("k-NN")
    assert panel.note == "" or panel.note.endswith(".")


def test_a_metric_without_a_panel_has_its_own_name() -> None:
    assert curves.curves_of("memory/queue_age", {"a": [LOG]}, "epoch").axis == "queue age"
    assert [section.title for section in charts.training({"a": [LOG]})] == ["Losses", "Other logged metrics"]


def test_a_file_in_the_folder_is_a_panel_of_both_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        from sslkit.plots.panels.base import Panel
        PANELS = [Panel("queue_age", "age (steps)", "Queue", "Low: fresh.", "Memory", 1, {"size": "queue_size"})]
    """
    (tmp_path / "queue_of_test.py").write_text(textwrap.dedent(text))
    monkeypatch.setattr(panels, "__path__", [*panels.__path__, str(tmp_path)])
    base.panels.cache_clear()
    try:
        drawn = curves.curves_of("queue_age", {"a": [LOG]}, "epoch")
        first, *_ = charts.training({"a": [LOG]})
    finally:
        base.panels.cache_clear()
    assert drawn.axis == "age (steps)"
    assert drawn.bounds == [("size", 9.0)]
    assert first.title == "Memory"
    assert [(chart.title, chart.note) for chart in first.charts] == [("Queue: memory", "Low: fresh.")]
