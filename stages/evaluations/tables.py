"""The tables of `sslkit compare`: numbers, and what differs between the recipes; as text, Markdown or CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from stages.contract.layout import Result
from stages.contract.output import table
from stages.evaluations.comparison import COSTS, Column
from stages.evaluations.protocol import shown

LEFT = ("run", "collapse", "recipe key", "accuracy", "over")  # columns of words; numbers are right-aligned
WIDE = 200  # characters of a line


def numbers_table(rows: Sequence[Result], numbers: Sequence[Column], reach: float | None) -> list[list[object]]:
    """The rows as cells, under a header; with a column for collapse only if some run collapsed."""
    time = [Column("reach_minutes", f"min to {reach:g} %")] if reach is not None else []
    costs = [Column(key, title) for key, title in COSTS.items()]
    collapse = [Column("collapse", "collapse")] if any(row["collapse"] for row in rows) else []
    columns = [Column("run", "run"), *numbers, *time, *costs, *collapse]
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
    """The monitor's verdicts; empty without any.

    >>> collapse_words({"dino": "uniform targets", "features": "features alike"})
    'dino: uniform targets; features alike'
    """
    return "; ".join(kind if name == "features" else f"{name}: {kind}" for name, kind in (found or {}).items())


def configs_table(found: Result) -> list[list[object]]:
    """What ``recipes.differing`` found as cells, under a header."""
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    head: list[object] = ["recipe key", *names]
    return [head, *([key, *(shown(values[name], none="-") for name in names)] for key, values in found.items())]


def as_text(cells: Sequence[Sequence[object]], markdown: bool) -> list[str]:
    """Lines of a table, for a terminal or as Markdown."""
    if not markdown:
        return table(cells)
    texts = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in cells]
    words = LEFT if cells[0][0] != "recipe key" else cells[0]
    rule = "|".join("---" if title in words else "---:" for title in cells[0])
    return [f"| {texts[0]} |", f"|{rule}|", *(f"| {text} |" for text in texts[1:])]


def transposed_if_wide(cells: Sequence[Sequence[object]]) -> list[list[object]]:
    """The table with a column for each run, if a row for each would be too long for a terminal."""
    if len(cells) >= len(cells[0]) or max(map(len, table(cells))) <= WIDE:
        return [list(row) for row in cells]
    texts = [[f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row] for row in cells]
    return [list(row) for row in zip(*texts, strict=True)]


def as_csv(rows: Sequence[Result], differences: Sequence[Result]) -> str:
    """One line for each run: the keys and unrounded values of ``--json``, then its differences."""
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
