"""`sslkit compare`: runs side by side in one table."""

from pathlib import Path
from typing import Annotated

import typer

from sslkit.errors import SslkitError
from stages.options import JsonOption
from stages.output import say, table
from stages.run import Result, Run


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")],
    json: JsonOption = False,
) -> None:
    """Show k-NN and linear accuracy of several runs, and what their training took."""
    rows = [summary(Run(path)) for path in runs]
    if len({row["data"] for row in rows if row["data"]}) > 1:
        say("note: these runs were judged on different data; their figures do not compare")
    if len({row["k"] for row in rows if row["k"]}) > 1:
        ks = ", ".join(f"{row['run']} {row['k']}" for row in rows if row["k"])
        say(f"note: k-NN at different k, which do not compare: {ks}")
    if json:
        import json as encoder

        print(encoder.dumps(rows))
        return
    header = ["run", "k-NN top-1", "linear top-1", "epochs", "minutes", "images/s"]
    print("\n".join(table([header, *([_cell(row[key]) for key in COLUMNS] for row in rows)])))


COLUMNS = ("run", "knn", "linear", "epochs", "minutes", "images_per_second")


def summary(run: Run) -> Result:
    """One run's row; None where a stage was not done.

    Raises:
        SslkitError: there is nothing to compare.
    """
    records = {stage: run.record(stage) for stage in ("pretrain", "extract", "knn", "linear")}
    if not any(records.values()):
        raise SslkitError(f"{run.path} holds no stage to compare: run `sslkit extract` and `sslkit knn` on it first")
    results = {s: r["results"] if r and r["status"] == "done" else {} for s, r in records.items()}
    training, extraction = records["pretrain"], records["extract"]
    return {
        "run": run.path.name,
        "knn": results["knn"].get("top1"),
        "k": results["knn"].get("k"),
        "linear": results["linear"].get("top1"),
        "epochs": results["pretrain"].get("epochs"),
        "minutes": round(training["seconds"] / 60, 1) if training and results["pretrain"] else None,
        "images_per_second": results["pretrain"].get("images_per_second"),
        "data": extraction["inputs"].get("data", {}).get("sha256") if extraction else None,
    }


def _cell(value: object) -> object:
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else value
