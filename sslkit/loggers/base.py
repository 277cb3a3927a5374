"""A logger: shows a run in a program for experiments, such as TensorBoard.

A logger keeps nothing that the run directory does not hold: rows of ``metrics.jsonl``, pictures, results. So whatever
opens an experiment first brings it up to date from these files, and a run that was killed in between continues it.
"""

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sslkit.errors import UsageError

PACKAGE = "sslkit.loggers"


@dataclass(frozen=True)
class LoggedPicture:
    """A PNG that shows the run at a step."""

    name: str
    step: int
    path: Path


@dataclass(frozen=True)
class Experiment:
    """What a run has to show so far."""

    name: str  # of the run, for people
    config: Mapping[str, Any]  # the resolved recipe
    rows: Sequence[Mapping[str, Any]]  # of the log, by step
    pictures: Sequence[LoggedPicture]
    results: Mapping[str, float]  # of later stages, as in ``results/knn/top1``

    @property
    def last_step(self) -> int:
        """The step of the last row; 0 without rows."""
        return self.rows[-1]["step"] if self.rows else 0

    def history(self) -> Iterator[Mapping[str, Any] | LoggedPicture]:
        """Rows and pictures in the order of their steps, which some programs insist on."""
        events = [(row["step"], row) for row in self.rows] + [(each.step, each) for each in self.pictures]
        return (event for _, event in sorted(events, key=lambda pair: pair[0]))


class Logger(ABC):
    """Writes one run's experiment.

    Args:
        folder: for the logger's files; it need not exist.
        known: what ``open`` returned when the experiment was last opened; empty for a new one.
    """

    package: ClassVar[str]  # that it needs; also the name of sslkit's extra

    def __init__(self, folder: Path, known: Mapping[str, str]):
        self.folder, self.known = folder, dict(known)

    @classmethod
    def check_installed(cls) -> None:
        """Raise ``UsageError`` if the package is missing: better now than after hours."""
        if importlib.util.find_spec(cls.package) is None:
            raise UsageError(
                f"--log {cls.package} requires a package that is not installed: pip install 'sslkit[{cls.package}]'"
            )

    def open(self, experiment: Experiment) -> dict[str, str]:
        """Open the experiment and add what it does not have yet.

        Returns:
            What identifies the experiment, for the next time that it is opened.
        """
        known = self.begin(experiment)
        for event in experiment.history():
            if isinstance(event, LoggedPicture):
                self.picture(event)
            else:
                self.row(event)
        self.results(experiment.results, experiment.last_step)
        self.flush()
        return known

    @abstractmethod
    def begin(self, experiment: Experiment) -> dict[str, str]:
        """Create the experiment with its name and config, or continue the known one; returns what identifies it."""

    @property
    @abstractmethod
    def where(self) -> str:
        """How a person sees the experiment: a command or an address."""

    @abstractmethod
    def row(self, row: Mapping[str, Any]) -> None:
        """Add the numbers of a row of the log, unless the experiment has them."""

    @abstractmethod
    def picture(self, picture: LoggedPicture) -> None:
        """Add a picture, unless the experiment has it."""

    @abstractmethod
    def results(self, results: Mapping[str, float], step: int) -> None:
        """Set the results of later stages, which belong to the last step."""

    def flush(self) -> None:  # noqa: B027  most programs need no such thing
        """Write what is still buffered."""

    @abstractmethod
    def close(self, complete: bool) -> None:
        """Write what is still buffered, and let go; ``complete`` says that the run has reached its end."""


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row, without its step.

    >>> numbers({"step": 3, "loss": 0.5, "knn": None, "warnings": ["collapse"]})
    {'loss': 0.5}
    """
    return {
        name: value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def flat(nested: Mapping[str, Any], joint: str = ".") -> dict[str, Any]:
    """A nested mapping by the keys on the way to each value.

    >>> flat({"train": {"epochs": 2}, "method": {}})
    {'train.epochs': 2, 'method': {}}
    """
    found = {}
    for key, value in nested.items():
        deeper = flat(value, joint) if isinstance(value, Mapping) and value else {"": value}
        found |= {f"{key}{joint}{name}" if name else str(key): each for name, each in deeper.items()}
    return found
