"""What a kind of damaged input is; each file in ``kinds/`` holds one."""

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

KINDS = Path(__file__).parent / "kinds"


@dataclass(frozen=True)
class Damage:
    """What was done to an input.

    Attributes:
        words: for the report.
        recorded: whether a checksum, a digest or a length in the input tells of the damage, so that a result other
            than the undamaged one, without a word, is a silent wrong.
    """

    words: str
    recorded: bool = True


class Kind(ABC):
    """Inputs of one kind. To add one, put a file with one subclass into ``kinds/``; its name is the file's.

    Every case has a folder of its own, in which its commands run. What is built once is copied there, then damaged.
    Write below ``input/``; let commands write below ``run/``; a file that appears anywhere else fails the case.
    """

    said = re.compile(r"skipped|note  |left out|damaged|cannot be read|not used")
    """What a command prints when it tells of damage; more matches than for the undamaged input are a word."""

    weight = 1.0
    """Share of the cases, relative to the other kinds."""

    @property
    def name(self) -> str:
        """The file's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def build(self, folder: Path) -> None:
        """Write the undamaged input into an empty folder: small, so that a case takes a tenth of a second."""

    @abstractmethod
    def damage(self, folder: Path, draw: Random) -> Damage:
        """Damage a copy of it in place. Everything random comes from ``draw``."""

    @abstractmethod
    def commands(self, folder: Path) -> list[list[str]]:
        """The sslkit command lines to run, until one fails; the working directory is the folder."""

    @abstractmethod
    def result(self, folder: Path) -> Any:
        """What the commands have made of it, as JSON values: equal for equal results. Called when all succeeded."""

    def warm_up(self, folder: Path, sslkit: Callable[[list[str]], int]) -> None:
        """Import what the commands import, by running them once in the process that forks the others.

        A kind whose commands train must import only: no process may train that is forked from one that has.
        """
        for words in self.commands(folder):
            sslkit(words)
        self.result(folder)

    def same(self, undamaged: Any, result: Any) -> bool:
        """Whether a result is no wrong one; by default, whether it equals that of the undamaged input."""
        return undamaged == result


def kinds(names: list[str] | None = None) -> list[Kind]:
    """All kinds by name, or those that are named."""
    found = []
    for path in sorted(KINDS.glob("[a-z]*.py")):
        if names and path.stem not in names:
            continue
        module = importlib.import_module(f"campaign.kinds.{path.stem}")
        found += [
            each()
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, Kind) and each.__module__ == module.__name__
        ]
    return found
