"""The runs of a comparison or a report with their evaluations, and the seeds of an experiment joined."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sslkit.errors import SslkitError
from sslkit.statistics.intervals import interval
from stages.contract.layout import Result, Run
from stages.contract.stage import stage_of
from stages.contract.survey import survey
from stages.evaluations.results import Evaluation, StageResult


@dataclass(frozen=True)
class Estimate:
    """One evaluation of a run, or of the seeds of an experiment."""

    value: float  # percent; the mean over seeds
    half: float | None  # half width of the 95 % interval of that mean (Student's t); None for a single run
    evaluations: Sequence[Evaluation]  # by run

    @property
    def stale(self) -> bool:
        """Whether an input changed since."""
        return any(evaluation.stage.stale for evaluation in self.evaluations)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over seeds, or that of a single run; None if unknown."""
        if self.half is not None:
            return self.value - self.half, self.value + self.half
        return self.evaluations[0].spread


@dataclass(frozen=True)
class Member:
    """One run of a comparison or a report."""

    name: str  # seeds of one experiment may share it
    run: Run
    stages: Sequence[StageResult]  # its own stages, then those on other data

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """By key, in order."""
        found = [evaluation for stage in self.stages for evaluation in stage.evaluations()]
        return {evaluation.key: evaluation for evaluation in sorted(found, key=lambda each: each.order)}

    @cached_property
    def own(self) -> dict[str, StageResult]:
        """By id its stages, the expected ones even if they never ran; without those on other data."""
        return {stage.id: stage for stage in self.stages if stage.home.path == self.run.home(stage.declared).path}

    @cached_property
    def training(self) -> Result:
        """The record of the training run; empty if there is none."""
        return self.run.record_in(self.run.pretrain) or {}

    @property
    def recipe(self) -> Result:
        """The recipe as ``pretrain`` resolved it; empty if there is none."""
        return self.training.get("config") or {}

    @property
    def data(self) -> str | None:
        """Fingerprint of the data from which its features were extracted."""
        return ((self.run.record_in(self.run.features) or {}).get("inputs") or {}).get("data", {}).get("sha256")


Groups = Mapping[str, Sequence[Member]]  # by name a run, or the seeds of an experiment


def read_member(path: Path, name: str, placed: bool = False) -> Member:
    """A run under a name, with its results on other data; ``placed`` also names its own data.

    Raises:
        SslkitError: a ``stage.json`` is damaged.
    """
    run = Run(path)
    found = _stages(run, run.data.parent.resolve().name if placed else "", survey(run))
    for other in run.transfers():
        begun = other.stages()
        found += [stage for stage in _stages(other, other.path.name, survey(other)) if stage.id in begun]
    return Member(name, run, found)


def _stages(run: Run, on: str, surveyed: Mapping[str, Mapping[str, Any]]) -> list[StageResult]:
    found = []
    for stage, facts in surveyed.items():
        home = run.home(stage_of(stage))
        found.append(StageResult(stage, home, on, facts["state"], facts["stale"], home.record(stage) or {}))
    return found


def read_members(names: Mapping[str, Sequence[Path]]) -> dict[str, list[Member]]:
    """The runs of each name.

    Where some were evaluated on other data, and their own data differ, every evaluation names its data. A table of
    encoders trained on one dataset and evaluated on several then has a column for each of them.

    Raises:
        SslkitError: nothing can be compared in one of them.
    """
    runs = [Run(path) for paths in names.values() for path in paths]
    manifests = {run.manifest.resolve() for run in runs if run.manifest.exists()}
    placed = len(manifests) > 1 and any(run.transfers() for run in runs)
    members = {name: [read_member(path, name, placed) for path in paths] for name, paths in names.items()}
    for member in (member for those in members.values() for member in those):
        compared = [stage for stage in member.run.stages() if stage_of(stage).home != "data"]
        if not compared and not member.evaluations:
            path = member.run.path
            raise SslkitError(f"{path} holds no results to compare: run `sslkit extract` and `sslkit knn` on it first")
    return members


def estimates(
    members: Iterable[Member], column: Callable[[Evaluation], str] = lambda evaluation: evaluation.key
) -> dict[str, Estimate]:
    """The evaluations of a run, or of an experiment's seeds, by column; those with the same column are joined."""
    found: dict[str, list[Evaluation]] = {}
    every = [evaluation for member in members for evaluation in member.evaluations.values()]
    for evaluation in sorted(every, key=lambda each: each.order):
        found.setdefault(column(evaluation), []).append(evaluation)
    return {name: Estimate(*interval([each.value for each in those]), those) for name, those in found.items()}
