"""The rows of `sslkit compare`: every evaluation of each run, what its training took, and whether it collapsed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from sslkit.artifacts import read_rows
from stages.contract.layout import Result
from stages.contract.stage import recorded
from stages.evaluations.members import Member, estimates
from stages.evaluations.results import TOP1

COSTS = {"epochs": "epochs", "minutes": "minutes", "images_per_second": "images/s", "peak_memory_mb": "peak MB"}
PERCENT, ANY_UNIT = ".1f", ".3g"


@dataclass(frozen=True)
class Column:
    """A column of numbers: its key in a row, its title, and their format."""

    key: str
    title: str
    style: str = PERCENT


def columns_of(members: Iterable[Member]) -> list[Column]:
    """A column for every evaluation that one of the runs has.

    Those that every run is expected to have are always there, unless all columns name their data.
    """
    found = {e.key: e for member in members for e in member.evaluations.values()}
    expected = {name: stage for name, stage in recorded().items() if stage.expected and stage.evaluates}
    columns = {name: Column(name, f"{stage.titled()} top-1") for name, stage in expected.items()}
    if found and all(evaluation.stage.on for evaluation in found.values()):
        columns = {}
    for key, evaluation in sorted(found.items(), key=lambda item: item[1].order):
        columns.setdefault(key, Column(key, evaluation.title, PERCENT if evaluation.metric == TOP1 else ANY_UNIT))
    return list(columns.values())


def row(member: Member, columns: Sequence[Column], reach: float | None) -> Result:
    """One run's row; None where it lacks a value."""
    values: Result = {"run": member.name}
    for column in columns:
        evaluation = member.evaluations.get(column.key)
        values[column.key] = evaluation.value if evaluation else None
    values |= _settled(member)
    if reach is not None:
        values["reach_minutes"] = minutes_to(member, reach)
    return {**values, **_costs(member), "data": member.data}


def _settled(member: Member) -> Result:
    """The settings that the expected evaluations settled, such as the headline's k."""
    found: Result = {}
    for name, stage in recorded().items():
        if stage.expected and stage.evaluates:
            mine = member.own.get(name)
            found |= {setting: mine.settled.get(setting) if mine else None for setting in stage.settled}
    return found


def _costs(member: Member) -> Result:
    record = member.training
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


def joined(name: str, members: Sequence[Member], columns: Sequence[Column], reach: float | None) -> Result:
    """One row for the seeds of an experiment: mean values and costs, and the highest peak of memory."""
    rows, found = [row(member, columns, reach) for member in members], estimates(members)
    both: Result = {"run": name, "seeds": len(rows)}
    for column in columns:
        estimate = found.get(column.key)
        both[column.key] = estimate.value if estimate else None
        both[f"{column.key}_runs"] = len(estimate.evaluations) if estimate else 0  # some seeds may not have it yet
        both[f"{column.key}_interval"] = estimate.half if estimate else None
    for key in [*_settled(members[0]), *(["reach_minutes"] if reach is not None else []), *COSTS]:
        values = [each[key] for each in rows if each[key] is not None]
        both[key] = (max if key == "peak_memory_mb" else mean)(values) if values else None
        if key == "reach_minutes":
            both[f"{key}_runs"] = len(values)
    kinds = Counter(pair for each in rows for pair in (each["collapse"] or {}).items())
    both["collapse"] = {
        objective: kind if count == len(rows) else f"{kind} ({count} of {len(rows)})"
        for (objective, kind), count in kinds.items()
    }
    return {**both, "data": rows[0]["data"]}


def minutes_to(member: Member, accuracy: float) -> float | None:
    """Minutes of training steps until the monitor's k-NN first reached an accuracy in percent; None if it never did.

    A row of ``metrics.jsonl`` has no clock, but the images per second since the row before; the images between the two
    are steps times the batch size. The time that the monitor itself took is not included.
    """
    batch = (member.recipe.get("train") or {}).get("batch_size")
    seconds, before = 0.0, 0
    for entry in read_rows(member.run.checked(member.run.metrics)):
        speed = entry.get("images_per_second")
        if not speed or not batch:
            continue
        seconds, before = seconds + (entry["step"] - before) * batch / speed, entry["step"]
        if entry.get("knn") is not None and entry["knn"] >= accuracy:
            return seconds / 60
    return None
