"""What `sslkit compare` knows of runs: every accuracy their stages gave, on whatever data, and what training took."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from sslkit.errors import SslkitError
from sslkit.files import read_rows
from sslkit.statistics.intervals import interval
from stages.contract.layout import Result, Run
from stages.contract.stage import stages

COSTS = {
    "epochs": "epochs",
    "minutes": "minutes",
    "images_per_second": "images/s",
    "peak_memory_mb": "peak MB",
}
PERCENT, ANY_UNIT = ".1f", ".3g"


@dataclass(frozen=True)
class Evaluation:
    """One figure of one run.

    Attributes:
        run: that holds it: the trained one, or one below ``on/``.
        stage: or a variant of one, as ``Run.stages`` says it.
        metric: ``top1``, or a name in the ``headline`` of the stage's results.
        value: in percent if ``top1``.
        where: name of the data, for a run below ``on/`` of the one that is compared, or where all are named; else "".
    """

    run: Run
    stage: str
    metric: str
    value: float
    where: str = ""

    @property
    def key(self) -> str:
        """``linear:augment``, ``segment jaccard``, ``knn on photos``."""
        return self.stage + ("" if self.metric == "top1" else f" {self.metric}") + self._place

    @property
    def title(self) -> str:
        """The same for a person."""
        words = self.stage.replace("knn", "k-NN", 1).replace(":", " ")
        return words + ("" if self.metric == "top1" else f" {self.metric}") + self._place

    @property
    def _place(self) -> str:
        return f" on {self.where}" if self.where else ""

    @property
    def order(self) -> tuple[Any, ...]:
        """Own data first, then other data by name; in it the pipeline's order."""
        return self.where, list(stages()).index(self.stage.partition(":")[0]), self.stage, self.metric != "top1"


@dataclass(frozen=True)
class Member:
    """One run of a comparison.

    Attributes:
        name: what the comparison calls it; seeds of one experiment share it.
        run: where it is.
        evaluations: by key, in order.
        costs: what its training took, and whether it collapsed.
    """

    name: str
    run: Run
    evaluations: dict[str, Evaluation]
    costs: Result

    @property
    def config(self) -> Result | None:
        """The recipe it was trained by, as ``pretrain`` resolved it."""
        return (self.run.trained.record("pretrain") or {}).get("config")


@dataclass(frozen=True)
class Column:
    """A column of figures: its key in a row, its title, and how a number is written."""

    key: str
    title: str
    style: str = PERCENT


def read_members(names: Mapping[str, Sequence[Path]]) -> dict[str, list[Member]]:
    """The runs of each name.

    Where some were judged on other data than their own, and their own are not the same, every column names its data:
    so the table of what was learnt on one dataset and judged on several has a column for each of them.
    """
    runs = [Run(path) for paths in names.values() for path in paths]
    placed = (
        any(run.transfers() for run in runs)
        and len({run.manifest.resolve() for run in runs if run.manifest.exists()}) > 1
    )
    return {name: [read_member(path, name, placed) for path in paths] for name, paths in names.items()}


def read_member(path: Path, name: str, placed: bool = False) -> Member:
    """A run, under a name; ``placed`` names its own data, too.

    Raises:
        SslkitError: there is nothing to compare.
    """
    run = Run(path)
    below = [(other, other.path.name) for other in run.transfers()]
    own = run.data.parent.resolve().name if placed else ""
    found = [evaluation for place, where in [(run, own), *below] for evaluation in _evaluations(place, where)]
    if not set(run.stages()) - {"prepare"} and not found:
        raise SslkitError(f"{run.path} holds no stage to compare: run `sslkit extract` and `sslkit knn` on it first")
    return Member(name, run, {e.key: e for e in sorted(found, key=lambda e: e.order)}, _costs(run))


def _evaluations(run: Run, where: str) -> list[Evaluation]:
    """Every stage that is done and has a ``top1``, or figures that it calls its ``headline``."""
    found = []
    for stage in run.stages():
        record = run.record(stage) or {}
        results = record.get("results") or {}
        if record.get("status") != "done":
            continue
        figures = {**(results.get("headline") or {}), "top1": results.get("top1")}
        numbers = {k: v for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        found += [Evaluation(run, stage, metric, value, where) for metric, value in numbers.items()]
    return found


def _costs(run: Run) -> Result:
    record = run.trained.record("pretrain") or {}
    results = record.get("results") if record.get("status") == "done" else None
    if not results:
        return dict.fromkeys([*COSTS, "collapse"])
    return {
        "epochs": results.get("epochs"),
        "minutes": round(record["seconds"] / 60, 1),
        "images_per_second": results.get("images_per_second"),
        "peak_memory_mb": record.get("peak_memory_mb"),
        "collapse": results.get("collapse"),
    }


def figures_of(members: Iterable[Member]) -> list[Column]:
    """A column for every accuracy that one of the runs has; k-NN and linear are always there, if on no named data."""
    found = {e.key: e for member in members for e in member.evaluations.values()}
    columns = {"knn": Column("knn", "k-NN top-1"), "linear": Column("linear", "linear top-1")}
    if found and all(evaluation.where for evaluation in found.values()):
        columns = {}
    for key, evaluation in sorted(found.items(), key=lambda item: item[1].order):
        style = PERCENT if evaluation.metric == "top1" else ANY_UNIT
        columns.setdefault(key, Column(key, evaluation.title, style))
    return list(columns.values())


def row(member: Member, figures: Sequence[Column], reach: float | None) -> Result:
    """One run's row; None where a stage was not done."""
    values: Result = {"run": member.name}
    for column in figures:
        evaluation = member.evaluations.get(column.key)
        values[column.key] = evaluation.value if evaluation else None
    record, extraction = member.run.record("knn"), member.run.record("extract")
    values["k"] = ((record or {}).get("results") or {}).get("k")
    if reach is not None:
        values["reach_minutes"] = minutes_to(member, reach)
    data = extraction["inputs"].get("data", {}).get("sha256") if extraction else None
    return {**values, **member.costs, "data": data}


def together(name: str, rows: Sequence[Result], figures: Sequence[Column]) -> Result:
    """One row for the seeds of an experiment: mean accuracy and cost, the highest peak of memory."""
    accuracies = [column.key for column in figures]
    both: Result = {"run": name, "seeds": len(rows)}
    for key in [*accuracies, "k", *(["reach_minutes"] if "reach_minutes" in rows[0] else []), *COSTS]:
        values = [member[key] for member in rows if member[key] is not None]
        both[key] = (max if key == "peak_memory_mb" else mean)(values) if values else None
        if key in accuracies or key == "reach_minutes":
            # Some seeds may not have come to this stage yet.
            both[f"{key}_runs"] = len(values)
        if key in accuracies:
            both[f"{key}_interval"] = interval(values)[1] if values else None
    kinds = Counter(pair for member in rows for pair in (member["collapse"] or {}).items())
    both["collapse"] = {
        objective: kind if count == len(rows) else f"{kind} ({count} of {len(rows)})"
        for (objective, kind), count in kinds.items()
    }
    return {**both, "data": rows[0]["data"]}


def minutes_to(member: Member, accuracy: float) -> float | None:
    """Minutes of training steps until the monitor's k-NN first reached an accuracy in percent; None if it never did.

    A row of ``metrics.jsonl`` has no clock. It has the images per second since the row before, and the images between
    the two are steps times the batch size; what the evaluations themselves took is not in it.
    """
    batch = ((member.config or {}).get("train") or {}).get("batch_size")
    seconds, before = 0.0, 0
    for entry in read_rows(member.run.metrics):
        speed = entry.get("images_per_second")
        if not speed or not batch:
            continue
        seconds, before = seconds + (entry["step"] - before) * batch / speed, entry["step"]
        if entry.get("knn") is not None and entry["knn"] >= accuracy:
            return seconds / 60
    return None
