"""`sslkit status`: every state a stage can be in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from sslkit.errors import SslkitError
from stages.cli import app
from stages.contract.run import CHAIN, FOLDERS, Run
from stages.status import lines, survey


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    return run


def perform(run: Run, stage: str, results: dict | None = None, **inputs: Path) -> None:
    def work(folder: Path) -> dict:
        (folder / "out").write_text(stage)
        return results or {}

    run.perform(stage, work, config={}, inputs=inputs)


def test_an_empty_run_has_run_nothing(run: Run) -> None:
    stages = survey(run)
    assert list(stages) == list(FOLDERS)[:CHAIN]
    assert {facts["state"] for facts in stages.values()} == {"never"}
    assert len(lines(stages)) == 1 + CHAIN


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
    assert [facts["stale"] for facts in survey(run).values()] == [[]] * CHAIN
    source.write_text("2")
    stages = survey(run)
    assert stages["pretrain"]["stale"] == ["recipe"]
    assert stages["extract"]["stale"] == ["stage pretrain"]
    assert stages["knn"]["stale"] == ["stage extract"]
    assert "pretrain is stale: recipe changed since; --force redoes it" in lines(stages)


def test_what_was_judged_on_other_data_is_stale_with_the_upper_runs_encoder(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("1")
    other = Run(tmp_path / "other")
    perform(other, "prepare", None, source=source)
    (other.own_data / "manifest.json").write_text("{}")
    perform(run, "pretrain", None, recipe=source)
    below = Run(run.path / "on" / "other", other.path)
    below.remember_data()
    perform(below, "extract", None, data=below.manifest, weights=run.pretrain / "out")
    perform(below, "knn", None, features=below.features / "out")
    source.write_text("2")  # training and data are to be redone: what was made of them is stale before they are
    stages = survey(Run(below.path))
    assert stages["pretrain"]["stale"] == ["recipe"] and stages["prepare"]["stale"] == ["source"]
    assert stages["extract"]["stale"] == ["stage prepare", "stage pretrain"]
    assert stages["knn"]["stale"] == ["stage extract"]
    (run.pretrain / "out").write_text("another encoder")
    assert below.stale("extract") == ["weights"]
    stages = survey(Run(below.path))
    assert "weights" in stages["extract"]["stale"] and stages["knn"]["stale"] == ["stage extract"]


def test_a_failure_and_lost_files_are_told(run: Run) -> None:
    def fail(folder: Path) -> dict:
        raise SslkitError("the disk is full")

    with pytest.raises(SslkitError):
        run.perform("linear", fail, config={}, inputs={})
    perform(run, "knn")
    (run.folder("knn") / "out").unlink()
    stages = survey(run)
    assert stages["linear"]["state"] == "failed"
    assert stages["knn"]["state"] == "files missing"
    assert "linear is failed (the disk is full); once that is mended, the same command goes on" in lines(stages)


def test_running_and_unfinished_are_told_apart(run: Run) -> None:
    code = (
        "import sys; from pathlib import Path; from stages.run import Run\n"
        "wait = lambda folder: print('held', flush=True) or sys.stdin.read() or {}\n"
        "Run(Path(sys.argv[1])).perform('extract', wait, config={}, inputs={})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert survey(run)["extract"]["state"] == "running"
        process.kill()
        process.wait()
        assert survey(run)["extract"]["state"] == "unfinished"
        # Another stage that runs now does not make the dead one look alive.
        with run.lock("knn"):
            assert survey(run)["extract"]["state"] == "unfinished"


def test_data_of_another_run_is_shown_as_its_own(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    perform(other, "prepare", {"train": 3})
    other.manifest.write_text("{}")
    here = Run(run.path, other.path)
    here.remember_data()
    facts = survey(Run(run.path))["prepare"]
    assert facts["results"] == {"train": 3}
    assert Path(facts["run"]).resolve() == other.path.resolve()


def test_what_was_judged_on_other_data_is_shown_below(run: Run, tmp_path: Path) -> None:
    perform(run, "knn", {"top1": 50.0})
    below = Run(run.path / "on" / "digits")
    perform(below, "knn", {"top1": 70.0})
    result = CliRunner().invoke(app, ["status", str(run.path)])
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["knn", "on", "digits"] in [row[:3] for row in rows] and "top1 70" in result.stdout
    assert "pretrain on digits" not in result.stdout
    facts = json.loads(CliRunner().invoke(app, ["status", str(run.path), "--json"]).stdout)
    assert facts["on"]["digits"]["knn"]["results"] == {"top1": 70.0} and list(facts["on"]["digits"]) == ["knn"]


def test_json_and_a_missing_run(run: Run) -> None:
    result = CliRunner().invoke(app, ["status", str(run.path), "--json"])
    assert json.loads(result.stdout)["stages"]["knn"] == {"state": "never", "stale": []}
    (run.path / "letters").mkdir()
    with pytest.raises(SslkitError, match="holds other things than a run"):
        CliRunner().invoke(app, ["status", str(run.path)], catch_exceptions=False)
    with pytest.raises(SslkitError, match="is no run directory"):
        CliRunner().invoke(app, ["status", str(run.path / "none")], catch_exceptions=False)
