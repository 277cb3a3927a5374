"""`sslkit status RUN`: every stage of a run, what it gave, and what is stale."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sslkit.errors import SslkitError
from stages.contract.absent import no_run
from stages.contract.integrity import RECORD
from stages.contract.layout import TRANSFERS, Run
from stages.contract.output import put, say, table
from stages.contract.stage import Stage, stages
from stages.contract.survey import Facts, begun, survey
from stages.options.basic import JsonOption, RunOptions

# Shown first where a stage reports them; otherwise its first numbers and names are.
HEADLINES = ("top1", "top5")
MAX_RESULTS = 3

STAGE = Stage(name="status", help="Show what was done and what is stale.", order=190)


@STAGE.command
@dataclass(kw_only=True)
class Status(RunOptions):
    """Show the state of every stage: when it ran, what it gave, and whether its inputs changed since."""

    json: JsonOption = False
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, and compare it with its recorded SHA-256.")
    ] = False

    def execute(self) -> None:
        """Print the table, or one JSON object.

        Raises:
            SslkitError: with ``--verify``, after printing: files are missing or damaged.
        """
        if not self.run.is_dir():
            raise SslkitError(no_run(self.run))
        run = Run(self.run)
        entries = {path.name for path in self.run.iterdir() if not path.name.startswith(".")}
        if entries and not run.stages() and not entries & {TRANSFERS, *(stage.folder for stage in stages().values())}:
            raise SslkitError(f"{self.run} is not a run directory: start one with `sslkit prepare RUN --source ...`")
        found = survey(run, self.verify)
        below = {other.path.name: begun(other, self.verify) for other in run.transfers()}
        elsewhere = {f"{stage} on {name}": facts for name, those in below.items() for stage, facts in those.items()}
        if self.json:
            print(json.dumps({"run": str(self.run), "stages": found, "on": below}))
        else:
            put(lines({**found, **elsewhere}))
        if self.verify:
            _judge({**found, **elsewhere})


def _judge(surveyed: dict[str, Facts]) -> None:
    """Say that every file is what was written, or fail."""
    damaged = [f"{stage} ({', '.join(facts['damaged'])})" for stage, facts in surveyed.items() if facts.get("damaged")]
    if damaged:
        raise SslkitError(f"files are missing or damaged: {'; '.join(damaged)}; the lines above say what to do")
    say("every file of a finished stage holds the bytes that were written")


def lines(surveyed: dict[str, Facts]) -> list[str]:
    """A survey for a person: a table, then what is stale or failed, then the commands."""
    rows: list[list[Any]] = [["stage", "state", "when", "seconds", "MB", "results"]]
    for stage, facts in surveyed.items():
        state = facts["state"] + (", stale" if facts["stale"] else "")
        when = (facts.get("when") or "-")[:16].replace("T", " ")
        seconds, memory = facts.get("seconds"), facts.get("peak_memory_mb")
        row = [stage, state, when, "-" if seconds is None else f"{seconds:.1f}", memory or "-"]
        rows.append([*row, _headline(facts.get("results") or {})])
    remarks = [remark for stage, facts in surveyed.items() for remark in _remarks(stage, facts)]
    commands = [f"  {facts['command']}" for facts in surveyed.values() if facts.get("command")]
    return [*table(rows), *remarks, *(["commands:", *commands] if commands else [])]


def _remarks(stage: str, facts: Facts) -> list[str]:
    """What is wrong with a stage, and what to do."""
    found = []
    if facts["stale"]:
        found.append(f"{stage} is stale: {', '.join(facts['stale'])} changed since; redo it with --force")
    if facts["state"] in ("failed", "unfinished", "interrupted"):
        why = f" ({facts['error']})" if facts.get("error") else ""
        fix = "fix that, then rerun the same command" if facts["state"] == "failed" else "rerun the same command"
        found.append(f"{stage} is {facts['state']}{why}; {fix} to resume")
    if facts["state"] == "damaged":
        what = f"{', '.join(facts['damaged'])} {'are' if len(facts['damaged']) > 1 else 'is'} damaged"
        why = f" ({facts['error']})" if facts.get("error") else ""
        redo = "with --force" if RECORD in facts["damaged"] else "by the same command"
        found.append(f"{stage}: {what}{why}; redo it {redo}")
    if facts["state"] == "files missing":
        found.append(
            f"{stage}: files that it wrote are missing or changed in size; rerun the same command to restore them"
        )
    return found


def _headline(results: dict[str, Any]) -> str:
    names = [name for name in HEADLINES if name in results]
    names = names or [name for name, value in results.items() if isinstance(value, int | float | str) and value != ""]
    return ", ".join(f"{name} {_short(results[name])}" for name in names[:MAX_RESULTS])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
