"""The tables of `sslkit compare`: figures, and what differs between the recipes; as text, Markdown or CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence

from stages.contract.layout import Result
from stages.contract.output import table
from stages.contract.record import leaves, value_at
from stages.evaluations.comparison import COSTS, Column, Member

LEFT = ("run", "collapse", "recipe key", "accuracy", "over")  # columns of words; figures stand right
LONG, WIDE = 40, 200  # characters of a value, of a line


def figures_table(rows: Sequence[Result], figures: Sequence[Column], reach: float | None) -> list[list[object]]:
    """The rows for a person, under a header; of collapse only where something has."""
    time = [Column("reach_minutes", f"min to {reach:g} %")] if reach is not None else []
    costs = [Column(key, title) for key, title in COSTS.items()]
    collapse = [Column("collapse", "collapse")] if any(row["collapse"] for row in rows) else []
    columns = [Column("run", "run"), *figures, *time, *costs, *collapse]
    return [[column.title for column in columns], *([_cell(row, column) for column in columns] for row in rows)]


def _cell(row: Result, column: Column) -> object:
    value = row[column.key]
    if column.key == "collapse":
        return collapse_words(value) or "-"
    if value is None:
        return "-"
    if row.get(f"{column.key}_interval") is not None:
        half = row[f"{column.key}_interval"]
        return f"{value:{column.style}} ± {half:{column.style}} ({row[f'{column.key}_runs']})"
    some = column.key == "reach_minutes" and row.get("reach_minutes_runs", row.get("seeds")) != row.get("seeds")
    text = f"{value:{column.style}}" if isinstance(value, float) else value
    return f"{text} ({row['reach_minutes_runs']} of {row['seeds']})" if some else text


def collapse_words(found: Mapping[str, str] | None) -> str:
    """``dino: uniform targets; features alike``."""
    return "; ".join(kind if name == "features" else f"{name}: {kind}" for name, kind in (found or {}).items())


def differing(groups: Mapping[str, Sequence[Member]]) -> Result:
    """Recipe keys whose values are not the same in all runs that were trained.

    Args:
        groups: by name one run, or the seeds of one experiment.

    Returns:
        Dotted key -> run -> its value, or the list of its seeds' values where they differ; None where the run's recipe
        has no such key. Empty for fewer than two trained runs.
    """
    found = {name: [m.config for m in members if m.config] for name, members in groups.items()}
    recipes = {name: configs for name, configs in found.items() if configs}
    every = [config for configs in recipes.values() for config in configs]
    differing: Result = {}
    # A section that some runs lack is told by its keys, not by a key of its own.
    keys = [key for key in sorted(set().union(*map(leaves, every))) if not any(_section(c, key) for c in every)]
    for key in keys:
        values = {name: _distinct([value_at(config, key) for config in recipes[name]]) for name in recipes}
        if len(_distinct(list(values.values()))) > 1:
            differing[key] = {name: those[0] if len(those) == 1 else those for name, those in values.items()}
    return differing


def _section(config: Result, key: str) -> bool:
    value = value_at(config, key)
    return isinstance(value, dict) and bool(value)


def _distinct(values: Sequence[object]) -> list[object]:
    """The values that differ, as JSON would tell them apart, in order."""
    return list({json.dumps(value): value for value in values}.values())


def configs_table(found: Result) -> list[list[object]]:
    """``differing`` for a person, under a header."""
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    return [
        ["recipe key", *names],
        *([key, *(_value(values[name]) for name in names)] for key, values in found.items()),
    ]


def _value(value: object) -> str:
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."


def as_text(cells: Sequence[Sequence[object]], markdown: bool) -> list[str]:
    """Lines of a table for a terminal, or for GitHub."""
    return _markdown(cells) if markdown else table(cells)


def turned_if_wide(cells: Sequence[Sequence[object]]) -> list[list[object]]:
    """The same table, with a column for each run where a row for each would be too long for a terminal."""
    if len(cells) >= len(cells[0]) or max(map(len, table(cells))) <= WIDE:
        return [list(row) for row in cells]
    texts = [[f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row] for row in cells]
    return [list(row) for row in zip(*texts, strict=True)]


def _markdown(cells: Sequence[Sequence[object]]) -> list[str]:
    texts = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in cells]
    words = LEFT if cells[0][0] != "recipe key" else cells[0]
    rule = "|".join("---" if title in words else "---:" for title in cells[0])
    return [f"| {texts[0]} |", f"|{rule}|", *(f"| {text} |" for text in texts[1:])]


def as_csv(rows: Sequence[Result], differences: Sequence[Result]) -> str:
    """One line for each run: the keys and unrounded values of ``--json``, and each difference in columns beside it."""
    parts = ("difference", "low", "high", "over", "p", "seeds_needed", "no_interval", "not_comparable")
    lines = []
    for row in rows:
        line = {**row, "collapse": collapse_words(row["collapse"])}
        for found in differences:
            if found["run"] == row["run"]:
                line |= {f"{found['accuracy']} {part}": found[part] for part in parts if part in found}
        lines.append(line)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
