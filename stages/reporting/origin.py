"""The provenance of a report's results: which stages were done, by which commands, from which files."""

from collections.abc import Sequence

from sslkit.plots.report.report import Cell, Origin, Step, Table
from stages.evaluations.results import StageResult
from stages.reporting.facts import RunFacts
from stages.reporting.notices import remarks

Rows = Sequence[Sequence[Cell]]
WIDEST = 8  # columns of a table of runs
MARKS = {"done": "good", "never": "none", "running": "warn", "interrupted": "warn", "unfinished": "warn"}


def states(every: Sequence[RunFacts]) -> Table:
    """The table of stages that were done."""
    titles = list(dict.fromkeys(s.title for facts in every for s in facts.stages))
    rows = []
    for facts in every:
        by_title = {stage.title: stage for stage in facts.stages}
        rows.append([Cell(facts.name), *(_state(by_title.get(title)) for title in titles)])
    return Table("Stages", *upright("run", "stage", [Cell(title) for title in titles], rows))


def upright(row: str, column: str, names: Sequence[Cell], rows: Rows) -> tuple[list[str], Rows]:
    """Head and rows of a table of runs; many columns become the rows, because a page is not that wide.

    Args:
        row: what a row is: the name of the first column.
        column: what a column is.
        names: of the columns, except the first.
        rows: each begins with its name.
    """
    if len(names) <= WIDEST:
        return [row, *(cell.text for cell in names)], rows
    turned = zip(names, *(cells[1:] for cells in rows), strict=True)
    return [column, *(cells[0].text for cells in rows)], [list(cells) for cells in turned]


def _state(stage: StageResult | None) -> Cell:
    if stage is None or stage.state == "never":
        return Cell("never run", mark="none")
    return Cell("done, stale", mark="warn") if stage.stale else Cell(stage.state, mark=MARKS.get(stage.state, "bad"))


def origin(facts: RunFacts) -> Origin:
    """The provenance of a run's results; versions that all stages share are stated once."""
    shared = {_versions(stage) for stage in facts.stages if stage.record}
    steps = [_step(facts, stage, len(shared) > 1) for stage in facts.stages]
    versions = next(iter(shared)) if len(shared) == 1 else ""
    return Origin(facts.name, str(facts.run.path), steps, versions)


def _step(run: RunFacts, stage: StageResult, with_versions: bool) -> Step:
    record = stage.record
    cell = _state(stage)
    if not record:
        return Step(stage.title, cell.text, cell.mark)
    read = [f"{name} {was['sha256'][:12]}" for name, was in record.get("inputs", {}).items()]
    made = stage.results.get("fingerprint")
    facts = {
        "when": (record.get("started") or "")[:16].replace("T", " "),
        "took": duration(record.get("seconds")),
        "device": (record.get("how") or {}).get("device"),
        "peak memory": f"{record['peak_memory_mb']:,} MB" if record.get("peak_memory_mb") else None,
        "read": ", ".join(read),
        "fingerprint": made[:12] if isinstance(made, str) else None,
        "versions": _versions(stage) if with_versions else None,
    }
    shown = [(name, str(value)) for name, value in facts.items() if value]
    return Step(stage.title, cell.text, cell.mark, shown, record.get("command"), remarks(run, stage))


def _versions(stage: StageResult) -> str:
    return ", ".join(f"{name} {version}" for name, version in (stage.record.get("versions") or {}).items())


def duration(seconds: float | None) -> str:
    """Seconds, for a person.

    >>> duration(24.1), duration(333.7), duration(7500.0)
    ('24.1 s', '5 min 34 s', '2 h 5 min')
    """
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
