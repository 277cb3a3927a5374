"""What a reader of a report must know first: collapse, warnings, unfinished and stale stages, values that differ."""

from collections.abc import Sequence
from dataclasses import replace

from sslkit.plots.report.report import Notice
from stages.evaluations.members import not_evaluated
from stages.evaluations.protocol import Protocol
from stages.evaluations.results import StageResult
from stages.reporting.facts import RunFacts

MOST = 10


def notices(every: Sequence[RunFacts], protocol: Protocol) -> list[Notice]:
    """The most important notices of these runs, the worst first; each names its run if there are several."""
    found = []
    for facts in every:
        name = f"{facts.name}: " if len(every) > 1 else ""
        own = [*_of_training(facts), *(notice for stage in facts.stages for notice in remarks(stage))]
        found += [replace(notice, text=name + notice.text) for notice in own]
    lacking = not_evaluated(every)
    for facts in every:
        if commands := lacking.get(facts.run.path):
            missing = f"{facts.name}: no accuracy yet that another run has."
            found.append(Notice("warn", "not evaluated", missing, " && ".join(commands)))
    found += [Notice("warn", "not comparable", f"{note}.") for note in protocol.notes(every)]
    found.sort(key=lambda notice: notice.mark)  # "bad" before "warn"
    more = len(found) - MOST
    last = Notice("warn", "more", f"{more} further remarks are under Provenance.")
    return found if more <= 1 else [*found[:MOST], last]


def remarks(stage: StageResult) -> list[Notice]:
    """What is wrong with a stage, with the command that fixes it."""
    title, again, found = stage.title, stage.record.get("command") or "", []
    if stage.stale and stage.state != "failed":
        words = f"{title}: {', '.join(stage.stale)} changed since; --force redoes it."
        found.append(Notice("warn", "stale", words, forced(again)))
    if stage.state == "failed":
        why = f": {stage.record['error']}" if stage.record.get("error") else ""
        found.append(Notice("bad", "failed", f"{title}{why}. Fix that, then rerun the same command.", again))
    if stage.state in ("interrupted", "unfinished"):
        found.append(Notice("warn", stage.state, f"{title}: rerun the same command to resume.", again))
    if stage.state == "running":
        found.append(Notice("warn", "running", f"{title}: the report shows its progress so far."))
    if stage.state == "files missing":
        words = f"{title}: files that it wrote are gone or changed; rerun the same command to write them again."
        found.append(Notice("bad", "files missing", words, again))
    return found


def forced(command: str) -> str:
    """A command line that redoes its stage.

    >>> forced("sslkit knn runs/a"), forced("sslkit knn runs/a --force")
    ('sslkit knn runs/a --force', 'sslkit knn runs/a --force')
    """
    return f"{command} --force" if command and "--force" not in command.split() else command


def _of_training(facts: RunFacts) -> list[Notice]:
    verdict, mark = facts.collapse()
    collapsed = mark == "bad" and facts.trained
    if collapsed and not facts.warnings:
        return [Notice("bad", "collapse", f"the training run collapsed ({verdict}).")]
    kind = "collapse" if collapsed else "warning"
    return [Notice("bad" if collapsed else "warn", kind, words) for words in facts.warnings]
