"""What a reader of a report must know first: collapse, warnings, unfinished and stale stages, values that differ."""

from collections.abc import Sequence
from dataclasses import replace

from sslkit.plots.report.report import Notice
from stages.contract.layout import PRETRAIN
from stages.evaluations.lacking import lacking
from stages.evaluations.protocol import Protocol
from stages.evaluations.results import StageResult
from stages.reporting.facts import RunFacts

MOST = 10


def notices(every: Sequence[RunFacts], protocol: Protocol) -> list[Notice]:
    """The most important notices of these runs, the worst first; each names its run if there are several.

    Only remarks on stages are left out, which the provenance of their run lists too.
    """
    own, common = [], _not_evaluated(every)
    for facts in every:
        name = f"{facts.name}: " if len(every) > 1 else ""
        for stage in facts.stages:
            own += [replace(notice, text=name + notice.text) for notice in remarks(facts, stage)]
    common += [Notice("warn", "not comparable", f"{note}.") for note in protocol.notes(every)]
    own.sort(key=lambda notice: notice.mark)  # "bad" before "warn"
    room = max(MOST - len(common), 1)
    more = len(own) - room
    if more <= 1:
        return [*own, *common]
    return [*own[:room], *common, Notice("warn", "more", f"{more} further remarks are under Provenance.")]


def remarks(facts: RunFacts, stage: StageResult) -> list[Notice]:
    """What is wrong with a stage of a run, with the command that fixes it."""
    found = _of_training(facts) if stage is facts.stage_in(PRETRAIN) else []
    title, again = stage.title, stage.record.get("command") or ""
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


def _not_evaluated(every: Sequence[RunFacts]) -> list[Notice]:
    """One notice on all evaluations that never ran in a run though they did in another one, and a line for each run.

    Those that failed or were interrupted have a notice of their own.
    """
    found = lacking(every, begun=False)
    if not found:
        return []
    alike: dict[str, list[str]] = {}
    for lack in found:
        alike.setdefault(" or ".join(stage.title for stage in lack.evaluations), []).append(lack.member.name)
    words = [
        f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no {titles} accuracy yet"
        for titles, names in alike.items()
    ]
    obstacles = [f" {lack.member.name}: {lack.obstacle}." for lack in found if lack.obstacle]
    commands = [" && ".join(lack.commands) for lack in found if lack.commands]
    text = f"{'; '.join(words)}, though another run does.{''.join(obstacles)}"
    return [Notice("warn", "not evaluated", text, "\n".join(commands))]
