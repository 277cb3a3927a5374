"""`sslkit compare`: runs side by side in one table."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from sslkit.errors import SslkitError
from stages.options import JsonOption, SeedsOption
from stages.output import say, table
from stages.run import Result, Run
from stages.seeds import grouped, interval

COLUMNS = {
    "run": "run",
    "knn": "k-NN top-1",
    "linear": "linear top-1",
    "epochs": "epochs",
    "minutes": "minutes",
    "images_per_second": "images/s",
    "peak_memory_mb": "peak MB",
    "collapse": "collapse",  # shown where something has collapsed
}
ACCURACIES = ("knn", "linear")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")],
    seeds: SeedsOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    json: JsonOption = False,
) -> None:
    """Show k-NN and linear accuracy of several runs, what their training took, and whether it collapsed.

    With --seeds accuracies are means with the half width of their 95 % interval and the number of runs, in percent.
    """
    groups = {name: [summary(Run(path), name) for path in paths] for name, paths in grouped(runs, seeds).items()}
    _remark([row for rows in groups.values() for row in rows])
    rows = [_together(name, members) if seeds else members[0] for name, members in groups.items()]
    if json:
        import json as encoder

        print(encoder.dumps(rows))
        return
    keys = [key for key in COLUMNS if key != "collapse" or any(row["collapse"] for row in rows)]
    cells = [[COLUMNS[key] for key in keys], *([_cell(row, key) for key in keys] for row in rows)]
    print("\n".join(_markdown(cells) if markdown else table(cells)))


def summary(run: Run, name: str) -> Result:
    """One run's row under a name; None where a stage was not done.

    Raises:
        SslkitError: there is nothing to compare.
    """
    records = {stage: run.record(stage) for stage in ("pretrain", "extract", "knn", "linear")}
    if not any(records.values()):
        raise SslkitError(f"{run.path} holds no stage to compare: run `sslkit extract` and `sslkit knn` on it first")
    results = {s: r["results"] if r and r["status"] == "done" else {} for s, r in records.items()}
    training, extraction = records["pretrain"] if results["pretrain"] else None, records["extract"]
    return {
        "run": name,
        "knn": results["knn"].get("top1"),
        "k": results["knn"].get("k"),
        "linear": results["linear"].get("top1"),
        "epochs": results["pretrain"].get("epochs"),
        "minutes": round(training["seconds"] / 60, 1) if training else None,
        "images_per_second": results["pretrain"].get("images_per_second"),
        "peak_memory_mb": training.get("peak_memory_mb") if training else None,
        "collapse": results["pretrain"].get("collapse"),
        "data": extraction["inputs"].get("data", {}).get("sha256") if extraction else None,
    }


def _remark(rows: Sequence[Result]) -> None:
    """Say what makes figures of these runs no comparison."""
    if len({row["data"] for row in rows if row["data"]}) > 1:
        say("note: these runs were judged on different data; their figures do not compare")
    if len({row["k"] for row in rows if row["k"]}) > 1:
        ks = ", ".join(dict.fromkeys(f"{row['run']} {row['k']}" for row in rows if row["k"]))
        say(f"note: k-NN at different k, which do not compare: {ks}")


def _together(name: str, rows: Sequence[Result]) -> Result:
    """One row for the seeds of an experiment: mean accuracy and cost, the highest peak of memory."""
    row: Result = {"run": name, "seeds": len(rows)}
    for key in ("knn", "k", "linear", "epochs", "minutes", "images_per_second", "peak_memory_mb"):
        values = [member[key] for member in rows if member[key] is not None]
        row[key] = (max if key == "peak_memory_mb" else mean)(values) if values else None
        if key in ACCURACIES:
            # Some seeds may not have come to this stage yet.
            row[f"{key}_runs"] = len(values)
            row[f"{key}_interval"] = interval(values)[1] if values else None
    kinds = Counter(pair for member in rows for pair in (member["collapse"] or {}).items())
    row["collapse"] = {
        objective: kind if count == len(rows) else f"{kind} ({count} of {len(rows)})"
        for (objective, kind), count in kinds.items()
    }
    return {**row, "data": rows[0]["data"]}


def _cell(row: Result, key: str) -> object:
    value = row[key]
    if key == "collapse":
        found = (value or {}).items()
        return "; ".join(kind if name == "features" else f"{name}: {kind}" for name, kind in found) or "-"
    if value is None:
        return "-"
    if row.get(f"{key}_interval") is not None:
        return f"{value:.1f} ± {row[f'{key}_interval']:.1f} ({row[f'{key}_runs']})"
    return f"{value:.1f}" if isinstance(value, float) else value


def _markdown(cells: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table for GitHub; figures stand right."""
    texts = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in cells]
    rule = "|".join("---" if title in ("run", "collapse") else "---:" for title in cells[0])
    return [f"| {texts[0]} |", f"|{rule}|", *(f"| {text} |" for text in texts[1:])]
