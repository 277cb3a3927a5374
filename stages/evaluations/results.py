"""The results of a stage, parsed once for compare, report and the model card of export.

They say what was measured, on which images, with which interval, and whether an input changed since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sslkit.statistics.intervals import wilson
from stages.contract.layout import Result, Run
from stages.contract.stage import Draws, Stage, stage_of, stages
from stages.inputs.features.splits import read_predictions

TOP1 = "top1"


@dataclass(frozen=True)
class StageResult:
    """One stage of a run, or a variant of it."""

    id: str  # as in ``Run.stages``: ``linear:augment``
    home: Run  # the run that holds its folder
    on: str  # name of its data, if that is not clear from the run; else empty
    state: str  # as ``sslkit status`` calls it
    stale: Sequence[str]  # inputs that changed since
    record: Result  # its ``stage.json``; empty if it never ran

    @property
    def declared(self) -> Stage:
        """The stage's declaration."""
        return stage_of(self.id)

    @property
    def title(self) -> str:
        """For example ``linear, augment on imagenette``."""
        return _on(self.declared.titled(self.id.partition(":")[2]), self.on)

    @property
    def results(self) -> Result:
        """Empty if it is not done."""
        return self.record.get("results") or {}

    @property
    def config(self) -> Result:
        """The settings of the stage; empty if it never ran."""
        return self.record.get("config") or {}

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.home.folder(self.id)

    @property
    def predictions(self) -> Path:
        """Where a stage that classifies val writes its predictions."""
        return self.home.predictions(self.id)

    @cached_property
    def extraction(self) -> Result:
        """The record of the features of its run; empty where there is none."""
        return self.home.record_in(self.home.features) or {}

    @property
    def weights(self) -> str | None:
        """Whose weights it evaluates, in the words of ``--weights``; ``run`` is the run's own; None if unknown."""
        configs = (self.config, self.extraction.get("config") or {})
        return next((config["weights"] for config in configs if "weights" in config), None)

    @property
    def settled(self) -> Result:
        """The settings that the stage settled when it ran, such as the headline's k."""
        return {name: self.results[name] for name in self.declared.settled if name in self.results}

    @property
    def draws(self) -> Draws | None:
        """Over how many random draws its results are a mean; None where they are not."""
        return self.declared.draws(self.results)

    @cached_property
    def images(self) -> int | None:
        """The number of val images that its top-1 is a share of; None if unknown."""
        if TOP1 not in self.results:
            return None
        if "val_images" in self.results:
            return int(self.results["val_images"])
        if not self.predictions.exists():
            return None
        return len(read_predictions(self.predictions)["rows"])

    def evaluations(self) -> "list[Evaluation]":
        """Its top-1 and the numbers that its results call ``headline``, if it is done and evaluates the encoder."""
        if self.record.get("status") != "done" or not self.declared.evaluates:
            return []
        numbers = {**(self.results.get("headline") or {}), TOP1: self.results.get(TOP1)}
        return [
            Evaluation(self, metric, float(value))
            for metric, value in numbers.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]


@dataclass(frozen=True)
class Evaluation:
    """One number that a stage measured of an encoder, in percent."""

    stage: StageResult
    metric: str  # ``top1``, or a name in the ``headline`` of the stage's results
    value: float

    @property
    def key(self) -> str:
        """Its key in ``compare --json``: ``linear:augment``, ``segment jaccard``, ``knn on photos``."""
        return _on(self.stage.id + ("" if self.metric == TOP1 else f" {self.metric}"), self.stage.on)

    @property
    def title(self) -> str:
        """For example ``linear, augment``, ``segmentation Jaccard on photos``."""
        return _on(self._name, self.stage.on)

    @property
    def full_name(self) -> str:
        """The title without the data, and with what was drawn: ``few-shot, 10 shots, mean of 20 draws``."""
        if not (draws := self.stage.draws):
            return self._name
        return f"{self._name}, {draws.setting}, {f'mean of {draws.count} draws' if draws.count > 1 else '1 draw'}"

    @property
    def full_title(self) -> str:
        """The full name with the data."""
        return _on(self.full_name, self.stage.on)

    @property
    def _name(self) -> str:
        metric = "" if self.metric == TOP1 else f" {self.stage.declared.metrics.get(self.metric, self.metric)}"
        return self.stage.declared.titled(self.stage.id.partition(":")[2]) + metric

    @property
    def order(self) -> tuple[Any, ...]:
        """Own data first, then other data by name; within them the order of the pipeline."""
        stage = self.stage
        return stage.on, list(stages()).index(stage.declared.name), stage.id, self.metric != TOP1

    @property
    def spread(self) -> tuple[float, float] | None:
        """Its 95 % interval: over draws where it is a mean of them, else over other val images (Wilson)."""
        if draws := self.stage.draws:
            return None if draws.half is None else (self.value - draws.half, self.value + draws.half)
        images = self.stage.images if self.metric == TOP1 else None
        return wilson(self.value, images) if images else None


def _on(words: str, data: str) -> str:
    return f"{words} on {data}" if data else words
