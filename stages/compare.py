"""`sslkit compare`: runs side by side: accuracies, differences from a baseline, and what differs in the recipes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from sslkit.errors import SslkitError, UsageError
from sslkit.files import read_rows
from stages.contract.layout import Result, Run
from stages.contract.output import say
from stages.contract.stage import Stage
from stages.contract.survey import survey
from stages.evaluations.comparison import Column, Member, figures_of, read_members, row, together
from stages.evaluations.protocol import Protocol
from stages.evaluations.seeds import group_of, grouped
from stages.evaluations.tables import as_csv, as_text, configs_table, differing, figures_table, turned_if_wide
from stages.options.basic import JsonOption, SeedsOption

FEW = 6  # runs whose recipes still fit side by side on a terminal
BASELINE_HELP = (
    "The differences to this run: paired bootstrap over test images and McNemar's p; with --seeds over pairs of seeds."
)
REACH_HELP = "Minutes until the k-NN seen while it trained first reached so many percent (training steps only)."
CONFIGS_HELP = "Show recipe keys that differ; by default in text, for up to 6 runs."


STAGE = Stage(name="compare", help="Compare runs side by side, with intervals.", order=150)


@STAGE.command
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")],
    seeds: SeedsOption = False,
    baseline: Annotated[
        Optional[Path],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--baseline", metavar="RUN", help=BASELINE_HELP, show_default=False),
    ] = None,
    reach: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--reach", metavar="PERCENT", min=0, max=100, help=REACH_HELP, show_default=False),
    ] = None,
    configs: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--configs/--no-configs", help=CONFIGS_HELP, show_default=False),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one line of CSV for each run.")] = False,
    json: JsonOption = False,
) -> None:
    """Show every accuracy of several runs, also on other data, what their training took, and whether it collapsed.

    With --seeds accuracies are means with the half width of their 95 % interval and the number of runs, in percent.
    """
    if markdown + csv + json > 1:
        raise UsageError("--markdown, --csv and --json are three formats of one answer: give one of them")
    if csv and configs:
        raise UsageError("--configs is a table of its own, which CSV has no room for: take --json, or leave out --csv")
    for path in runs:
        if not path.is_dir():
            raise SslkitError(f"{path} is no run directory: name folders that `sslkit pretrain` or `extract` wrote")
    if baseline and not baseline.is_dir() and group_of(baseline, grouped([*runs], seeds), seeds) is None:
        words = ", nor the NAME of runs NAME-s0, NAME-s1, ..." if seeds else ""
        raise SslkitError(f"--baseline {baseline} is no run directory{words}")
    groups, base = _groups(runs, baseline, seeds)
    members = [member for group in groups.values() for member in group]
    figures, protocol = figures_of(members), Protocol(members)
    answer: Result = {
        "runs": _rows(groups, figures, reach, seeds),
        "differences": _differences(groups, base, figures, protocol),
        "notes": [*protocol.notes(members), *_stale(members), *_silent(members, reach), *_no_seeds(groups, seeds)],
    }
    if configs is not False:
        answer["configs"] = differing(groups)
    for note in answer["notes"]:
        say(f"note: {note}")
    if json:
        import json as encoder

        print(encoder.dumps({**({"baseline": base} if base else {}), **answer}))
    elif csv:
        print(as_csv(answer["runs"], answer["differences"]), end="")
    else:
        wanted = configs if configs is not None else not markdown and len(groups) <= FEW
        print("\n".join(_lines(answer, base, figures, reach, wanted, markdown)))


def _groups(
    paths: Sequence[Path], baseline: Path | None, by_seed: bool
) -> tuple[Mapping[str, Sequence[Member]], str | None]:
    """The runs by name, and the baseline's name; one that is not among them comes first."""
    names = grouped(paths, by_seed)
    base = group_of(baseline, names, by_seed) if baseline else None
    if baseline and not base:
        names = grouped([baseline, *paths], by_seed)
        base = group_of(baseline, names, by_seed)
    return read_members(names), base


def _rows(
    groups: Mapping[str, Sequence[Member]], figures: Sequence[Column], reach: float | None, by_seed: bool
) -> list[Result]:
    rows = {name: [row(member, figures, reach) for member in members] for name, members in groups.items()}
    return [together(name, those, figures) if by_seed else those[0] for name, those in rows.items()]


def _differences(
    groups: Mapping[str, Sequence[Member]], base: str | None, figures: Sequence[Column], protocol: Protocol
) -> list[Result]:
    if base is None:
        return []
    from stages.evaluations.differences import differences

    return differences(groups, base, figures, protocol)


def _stale(members: Sequence[Member]) -> list[str]:
    """Figures of an encoder, or of data, that is no longer the one that lies there."""
    notes = []
    for run in dict.fromkeys(e.run.path for member in members for e in member.evaluations.values()):
        stages = {e.stage for member in members for e in member.evaluations.values() if e.run.path == run}
        old = [stage for stage, facts in survey(Run(run)).items() if stage in stages and facts["stale"]]
        if old:
            notes.append(f"inputs of {', '.join(old)} of {run} changed since: see `sslkit status {run}`")
    return notes


def _no_seeds(groups: Mapping[str, Sequence[Member]], by_seed: bool) -> list[str]:
    """Runs that --seeds did not join, though it was asked to."""
    if not by_seed or any(len(members) > 1 for members in groups.values()):
        return []
    return ["--seeds joins runs of one folder named NAME-s0, NAME-s1, ...; none of these are"]


def _silent(members: Sequence[Member], reach: float | None) -> list[str]:
    """Trainings of which nobody knows when they reached an accuracy."""
    if reach is None:
        return []
    silent = [m.name for m in members if m.config and not any("knn" in entry for entry in read_rows(m.run.metrics))]
    names = ", ".join(dict.fromkeys(silent))
    return [f"no k-NN was logged while these trained, so --reach knows nothing of them: {names}"] if silent else []


def _lines(
    answer: Result, base: str | None, figures: Sequence[Column], reach: float | None, configs: bool, markdown: bool
) -> list[str]:
    """The tables for a person, one below the other."""
    rows = figures_table(answer["runs"], figures, reach)
    lines = as_text(rows if markdown else turned_if_wide(rows), markdown)
    if base is not None:
        from stages.evaluations.differences import cells, covers

        found = answer["differences"]
        if found:
            lines += ["", f"Difference to {base}, in percentage points:", *([""] if markdown else [])]
            lines += as_text(cells(found, figures), markdown)
            lines += [line for text in covers(found) for line in (["", text] if markdown else [text])]
        else:
            lines += ["", f"No other run has an accuracy that {base} has."]
    if configs and answer["configs"]:
        lines += ["", *as_text(configs_table(answer["configs"]), markdown)]
    return lines
