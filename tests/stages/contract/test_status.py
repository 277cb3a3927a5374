"""`sslkit status`: every state a stage can be in."""

import json
from pathlib import Path

import pytest
from conftest import do

from stages.contract.layout import Run
from stages.contract.stage import recorded
from stages.contract.survey import survey
from stages.status import lines


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    return run


def perform(run: Run, stage: str, results: dict | None = None, **inputs: Path) -> None:
    def work(folder: Path) -> dict:
        (folder / "out").write_text(stage)
        return results or {}

    do(run, stage, work, inputs=inputs)


def test_an_empty_run_has_run_nothing(run: Run) -> None:
    stages = survey(run)
    assert list(stages) == [name for name, stage in recorded().items() if stage.expected]
    assert {facts["state"] for facts in stages.values()} == {"never"}
    assert len(lines(stages)) == 1 + len(stages)


def test_results_times_and_commands_are_shown(run: Run) -> None:
    perform(run, "knn", {"k": 20, "top5": 90.0, "top1": 51.25})
    text = "\n".join(lines(survey(run)))
    assert "top1 51.25, top5 90" in text
    assert "commands:\n  sslkit" in text
    perform(run, "prepare", {"train": 10, "val": 5, "nested": {"a": 1}})
    assert "train 10, val 5\n" in "\n".join(lines(survey(run)))


def test_stale_stages_say_why_and_pass_it_on(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("1")
    perform(run, "pretrain", None, recipe=source)
    perform(run, "extract", None, encoder=run.pretrain / "out")
    perform(run, "knn", None, features=run.features / "out")
    assert [facts["stale"] for facts in survey(run).values()] == [[]] * 6
    source.write_text("2")
    stages = survey(run)
    assert stages["pretrain"]["stale"] == ["recipe"]
    assert stages["extract"]["stale"] == ["stage pretrain"]
    assert stages["knn"]["stale"] == ["stage extract"]
    assert "pretrain is stale: recipe changed since; redo it with --force" in lines(stages)


def test_results_on_other_data_are_shown_below(run: Run, sslkit) -> None:
    perform(run, "knn", {"top1": 50.0})
    below = Run(run.path / "on" / "digits")
    perform(below, "knn", {"top1": 70.0})
    _, out, _ = sslkit("status", run.path)
    assert ["knn", "on", "digits"] in [line.split()[:3] for line in out.splitlines()]
    assert "top1 70" in out
    assert "pretrain on digits" not in out
    facts = json.loads(sslkit("status", run.path, "--json")[1])
    assert facts["on"]["digits"]["knn"]["results"] == {"top1": 70.0}
    assert list(facts["on"]["digits"]) == ["knn"]


def test_json_and_a_missing_run(run: Run, sslkit) -> None:
    _, out, _ = sslkit("status", run.path, "--json")
    assert json.loads(out)["stages"]["knn"] == {"state": "never", "stale": []}
    (run.path / "letters").mkdir()
    code, _, err = sslkit("status", run.path)
    assert code == 1
    assert "is not a run directory" in err
    code, _, err = sslkit("status", run.path / "none")
    assert code == 1
    assert "no run directory at" in err
