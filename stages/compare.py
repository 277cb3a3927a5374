"""`sslkit compare`: accuracies of runs side by side, differences from a baseline, and how their recipes differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sslkit.artifacts import read_rows
from sslkit.errors import SslkitError, UsageError, named
from stages.contract.absent import no_run
from stages.contract.layout import Result
from stages.contract.output import put, say
from stages.contract.stage import Stage
from stages.evaluations.comparison import Column, columns_of, joined, row
from stages.evaluations.differences import cells, covers, differences
from stages.evaluations.lacking import lacking
from stages.evaluations.members import Groups, Member, read_members
from stages.evaluations.protocol import Protocol
from stages.evaluations.recipes import differing
from stages.evaluations.seeds import group_of, grouped
from stages.evaluations.tables import as_csv, as_text, configs_table, numbers_table, transposed_if_wide
from stages.options.runs import RunsOptions

FEW = 6  # runs whose recipes still fit side by side on a terminal
BASELINE_HELP = (
    "Show differences from this run: paired bootstrap over test images and McNemar's p; with --seeds over pairs of "
    "seeds."
)
REACH_HELP = "Minutes of training steps until the k-NN logged during training first reached this percentage."
CONFIGS_HELP = "Show the recipe keys that differ; by default in text, for up to 6 runs."

STAGE = Stage(name="compare", help="Compare runs side by side, with intervals.", order=150)


@STAGE.command
@dataclass(kw_only=True)
class Compare(RunsOptions):
    """Show every accuracy of several runs, on other data too, the cost of their training, and whether it collapsed.

    With --seeds, accuracies are means with the half width of their 95 % interval and the number of runs, in percent.
    """

    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="RUN", help=BASELINE_HELP, show_default=False)
    ] = None
    reach: Annotated[
        float | None, typer.Option("--reach", metavar="PERCENT", min=0, max=100, help=REACH_HELP, show_default=False)
    ] = None
    configs: Annotated[bool | None, typer.Option("--configs/--no-configs", help=CONFIGS_HELP, show_default=False)] = (
        None
    )
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False
    csv: Annotated[bool, typer.Option("--csv", help="Print one line of CSV for each run.")] = False

    def execute(self) -> None:
        """Print the comparison."""
        self._check()
        groups, base = self._groups()
        members = [member for group in groups.values() for member in group]
        columns, protocol = columns_of(members), Protocol(members)
        answer: Result = {
            "runs": [
                joined(name, those, columns, self.reach) if self.seeds else row(those[0], columns, self.reach)
                for name, those in groups.items()
            ],
            "differences": differences(groups, base, columns, protocol) if base is not None else [],
            "notes": [
                *(f"not comparable: {note}" for note in protocol.notes(members)),
                *_stale(members),
                *_missing(members),
                *_unlogged(members, self.reach),
                *_no_seeds(groups, self.seeds),
            ],
        }
        if self.configs is not False:
            answer["configs"] = differing(groups)
        for note in answer["notes"]:
            say(f"note: {note}")
        if self.json:
            print(json.dumps({**({"baseline": base} if base else {}), **answer}))
        elif self.csv:
            print(as_csv(answer["runs"], answer["differences"]), end="")
        else:
            put(self._lines(answer, base, columns))

    def _check(self) -> None:
        if self.markdown + self.csv + self.json > 1:
            raise UsageError("--markdown, --csv and --json exclude each other: give one of them")
        if self.csv and self.configs:
            raise UsageError("--configs is a second table, which does not fit into CSV: use --json, or leave out --csv")
        for path in self.runs:
            if not path.is_dir():
                raise SslkitError(no_run(path, "name folders that `sslkit pretrain` or `extract` wrote"))
        base = self.baseline
        if base and not base.is_dir() and group_of(base, grouped([*self.runs], self.seeds), self.seeds) is None:
            words = "no runs NAME-s0, NAME-s1, ... have that name either" if self.seeds else "name a run"
            raise SslkitError(f"--baseline: {no_run(base, words)}")

    def _groups(self) -> tuple[Groups, str | None]:
        """The runs by name, and the baseline's name; a baseline that is not among the runs comes first."""
        names = grouped(self.runs, self.seeds)
        base = group_of(self.baseline, names, self.seeds) if self.baseline else None
        if self.baseline and not base:
            names = grouped([self.baseline, *self.runs], self.seeds)
            base = group_of(self.baseline, names, self.seeds)
        return read_members(names), base

    def _lines(self, answer: Result, base: str | None, columns: Sequence[Column]) -> list[str]:
        """The tables, one below the other."""
        markdown, rows = self.markdown, numbers_table(answer["runs"], columns, self.reach)
        lines = as_text(rows if markdown else transposed_if_wide(rows), markdown)
        if base is not None and (found := answer["differences"]):
            lines += ["", f"Difference from {base}, in percentage points:", *([""] if markdown else [])]
            lines += as_text(cells(found, columns), markdown)
            lines += [line for text in covers(found) for line in (["", text] if markdown else [text])]
        elif base is not None:
            lines += ["", f"No other run has an accuracy that {base} has."]
        wanted = self.configs if self.configs is not None else not markdown and len(answer["runs"]) <= FEW
        if wanted and answer["configs"]:
            lines += ["", *as_text(configs_table(answer["configs"]), markdown)]
        return lines


def _stale(members: Sequence[Member]) -> list[str]:
    """A note on the results of each run whose encoder or data changed since."""
    stale: dict[Path, list[str]] = {}
    for stage in (e.stage for member in members for e in member.evaluations.values()):
        ids = stale.setdefault(stage.home.path, [])
        if stage.stale and stage.id not in ids:
            ids.append(stage.id)
    return [
        f"stale inputs of {', '.join(ids)} in {run}: see `sslkit status {run}`" for run, ids in stale.items() if ids
    ]


def _missing(members: Sequence[Member]) -> list[str]:
    """A note on the runs that lack an evaluation which all are expected to have, with the commands."""
    found = [f"{lack.member.run.path} ({lack.obstacle or '; '.join(lack.commands)})" for lack in lacking(members)]
    return [f"not evaluated yet: {named(found)}"] if found else []


def _no_seeds(groups: Groups, by_seed: bool) -> list[str]:
    """A note if --seeds joined nothing."""
    if not by_seed or any(len(members) > 1 for members in groups.values()):
        return []
    return ["--seeds joins runs of one folder named NAME-s0, NAME-s1, ...; none of these are"]


def _unlogged(members: Sequence[Member], reach: float | None) -> list[str]:
    """A note on training runs whose log cannot answer --reach."""
    if reach is None:
        return []
    unlogged = [
        m.name
        for m in members
        if m.recipe and not any("knn" in entry for entry in read_rows(m.run.checked(m.run.metrics)))
    ]
    names = ", ".join(dict.fromkeys(unlogged))
    return [f"no k-NN was logged during training, so --reach has no answer for {names}"] if unlogged else []
