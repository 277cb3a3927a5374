"""The notices of a report: one on everything that was not evaluated, and what is left out is under Provenance."""

from pathlib import Path

import pytest
from conftest import write_features

from sslkit.files import write_json
from sslkit.plots.report.report import Notice
from stages.contract.layout import Run
from stages.contract.lock import held
from stages.evaluations.protocol import Protocol
from stages.reporting.facts import RunFacts, read_facts
from stages.reporting.notices import MOST, notices
from stages.reporting.origin import origin

EMPTY = ((), ())  # features and labels that nothing reads


def write(run: Path, stage: str, status: str = "done", options: str = "", **facts) -> Path:
    """A stage's record; a stage that is done has an accuracy."""
    results = {"results": {"top1": 30.0, "k": 20}} if status == "done" else {}
    record = {"status": status, "stage": stage, "config": {}, "inputs": {}, "outputs": {}, **results, **facts}
    write_json(Run(run).folder(stage) / "stage.json", {**record, "command": f"sslkit {stage} {run}{options}"})
    return run


def facts_of(*runs: Path) -> list[RunFacts]:
    return [read_facts(run, run.name) for run in runs]


def noticed(*runs: Path) -> list[Notice]:
    every = facts_of(*runs)
    return notices(every, Protocol(every))


def test_one_notice_names_all_runs_that_were_not_evaluated_and_all_commands(tmp_path: Path) -> None:
    complete = write(write(tmp_path / "complete", "knn"), "linear")
    runs = [write_features(tmp_path / f"r{number}", EMPTY, EMPTY) for number in range(14)]
    for run in runs[:-1]:
        write(run, "knn")
    write(runs[-1], "attn-viz")
    (notice,) = noticed(complete, *runs)
    names = ", ".join(run.name for run in runs[:-1])
    assert (notice.mark, notice.kind) == ("warn", "not evaluated")
    assert notice.text == (
        f"{names} have no linear accuracy yet; r13 has no k-NN or linear accuracy yet, though another run does."
    )
    assert notice.command.splitlines() == [
        *(f"sslkit linear {run}" for run in runs[:-1]),
        f"sslkit knn {runs[-1]} && sslkit linear {runs[-1]}",
    ]
    assert noticed(*runs[:-1]) == []


def test_a_run_whose_features_nothing_here_can_make_is_explained_and_has_no_command(tmp_path: Path) -> None:
    complete, external = (write(write(tmp_path / name, "knn"), "linear") for name in ("complete", "external"))
    (external / "linear" / "stage.json").unlink()
    (notice,) = noticed(complete, external)
    opening = "external has no linear accuracy yet, though another run does. external: it has neither features nor an "
    assert notice.text.startswith(opening)
    assert notice.text.endswith(f"; then `sslkit linear {external}`.")
    assert notice.command == ""


@pytest.mark.parametrize("state", ["failed", "interrupted", "unfinished", "running", "files missing", "stale"])
def test_an_evaluation_that_was_begun_has_one_notice_with_its_own_command(state: str, tmp_path: Path) -> None:
    complete = write(write(tmp_path / "complete", "knn"), "linear")
    begun = write(write_features(tmp_path / "begun", EMPTY, EMPTY), "knn")
    status = {"unfinished": "running", "files missing": "done", "stale": "done"}.get(state, state)
    facts = {
        "files missing": {"outputs": {"results.json": 3}},
        "stale": {"inputs": {"features": {"path": "features/features.json", "sha256": "0" * 64}}},
    }
    write(begun, "linear", status, " --epochs 2", **facts.get(state, {}))
    with held(begun, "linear" if state == "running" else "knn"):
        (notice,) = noticed(complete, begun)
    assert notice.kind == state
    assert notice.text.startswith("begun: linear")
    again = "" if state == "running" else f"sslkit linear {begun} --epochs 2"
    assert notice.command == (f"{again} --force" if state == "stale" else again)


def test_notices_that_are_left_out_are_under_provenance(tmp_path: Path) -> None:
    runs = [write(tmp_path / f"r{number}", "knn", error="why", status="failed") for number in range(8)]
    for number, run in enumerate(runs):
        write(run, "pretrain", results={"epochs": 1, "warnings": [f"warning {number + 1} of {run.name}"]})
    complete = write(write(tmp_path / "complete", "knn"), "linear")
    other = write(write(tmp_path / "other", "knn", results={"top1": 30.0, "k": 10}), "linear")
    every = facts_of(complete, other, *runs)
    *shown, last = notices(every, Protocol(every))
    assert len(shown) == MOST
    assert {"not evaluated", "not comparable"} < {notice.kind for notice in shown}
    listed = [
        (f"{facts.name}: {remark.text}", remark.kind)
        for facts in every
        for step in origin(facts).steps
        for remark in step.remarks
    ]
    kinds = ("not evaluated", "not comparable")
    left_out = set(listed) - {(notice.text, notice.kind) for notice in shown if notice.kind not in kinds}
    assert last.text == f"{len(left_out)} further remarks are under Provenance."
    assert len(left_out) == 2 * len(runs) - (MOST - len(kinds))
    assert shown[0].mark == "bad"
