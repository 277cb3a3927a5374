"""What a stage says of itself, once, in its own file; and all stages, found by looking into the folder.

The command line, the run directory, ``status``, ``compare``, ``report`` and the model card iterate over these
declarations. None of them names a stage, so a new subcommand is one new file in ``stages/``.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from sslkit.errors import SslkitError

PACKAGE = "stages"
APP = "cli"
# A declaration as it stands in a file that is formatted as ours are, and what `--help` needs of it.
DECLARATION = re.compile(r"^STAGE = (Stage\((?:.*|\n(?: .*\n)*)\))$", re.MULTILINE)
READ_OFF = ("name", "help", "order")


@runtime_checkable
class Command(Protocol):
    """A parsed command line: a keyword-only dataclass whose fields are the arguments and options."""

    def execute(self) -> None:
        """Do what the command line asks for, and print the result."""
        ...


C = TypeVar("C")


@dataclass(frozen=True)
class Draws:
    """How a result was averaged over random draws, such as draws of the labelled images.

    Attributes:
        setting: what was drawn, as in ``"10 shots"``.
        count: number of draws.
        half: half width of the 95 % interval over draws, in percentage points; None for a single draw.
    """

    setting: str
    count: int
    half: float | None


@dataclass(kw_only=True, eq=False)
class Stage:
    """The declaration of a subcommand.

    Attributes:
        name: on the command line: the file's name with ``-`` for ``_``.
        help: its line in ``sslkit --help``.
        order: where it stands in the pipeline, and so in every list; any number.
        folder: the folder that it writes below the run; empty for a command that writes none.
        recorded: whether it writes that folder under the contract of ``perform``, with a ``stage.json``.
        title: what people call its results.
        expected: whether every run is expected to have it, so that ``status`` shows it before it ran.
        shared: whether several processes share its work. Otherwise the first does it, and the others say so and leave.
        home: whose folder it is: the run's, that of the run whose data it uses, or that of the run whose encoder
            it evaluates (see ``Run.trained``).
        requires: the options that it cannot do without, for advice such as ``run `sslkit prepare RUN --source ...` ``.
        otherwise: what to do where it was done with other settings, besides ``--force``; ``{run}`` is replaced.
        resumes_from: files that it resumes from and checks itself: damaged ones are not removed to be made again.
        evaluates: whether its results evaluate the encoder. Otherwise they prepare or show something.
        metrics: what people call the numbers that its results list under ``headline``.
        protocol: the settings of its ``config`` that must be equal for two results to be comparable.
        settled: those of them whose value its results state, because the stage settles them when it runs.
        variants: titles of variants, by the first word of a variant's name; others are the title and their name.
        draws: reads from results over how many draws they are a mean; None in return, where they are not.
        gallery: heading of its pictures in the report; the title by default.
        pictures: the files that it always draws, besides those that its results list: ``file``, ``title``, ``alt``.
        parses: the command, set by the decorator ``command``.
    """

    name: str
    help: str
    order: int
    folder: str = ""
    recorded: bool = True
    title: str = ""
    expected: bool = False
    shared: bool = False
    home: Literal["run", "data", "encoder"] = "run"
    requires: str = ""
    otherwise: str = ""
    resumes_from: Sequence[str] = ()
    evaluates: bool = False
    metrics: Mapping[str, str] = field(default_factory=dict)
    protocol: Sequence[str] = ()
    settled: Sequence[str] = ()
    variants: Mapping[str, str] = field(default_factory=dict)
    draws: Callable[[Mapping[str, Any]], Draws | None] = lambda results: None
    gallery: str = ""
    pictures: Sequence[Mapping[str, str]] = ()
    parses: Any = field(default=None, init=False)

    def command(self, parses: C) -> C:
        """Make a class (see ``Command``) or a ``typer.Typer`` the parser of this stage's command line."""
        self.parses = parses
        return parses

    def id(self, variant: str = "") -> str:
        """``"linear"``, or ``"linear:augment"`` for a variant, which has a folder of its own."""
        return f"{self.name}:{variant}" if variant else self.name

    def titled(self, variant: str = "") -> str:
        """What people call its results, or those of a variant: ``"linear, augment"``."""
        first, _, rest = variant.partition("-")
        title = self.variants.get(first)
        words = [title, rest] if title else [self.title or self.name, variant]
        return ", ".join(filter(None, words))


def load(name: str) -> Stage:
    """The stage of a name; its file imports nothing heavy.

    Raises:
        SslkitError: its file declares none.
    """
    file = name.replace("-", "_")
    stage = getattr(importlib.import_module(f"{PACKAGE}.{file}"), "STAGE", None)
    if not isinstance(stage, Stage) or stage.parses is None:
        raise SslkitError(f"stages/{file}.py declares no STAGE with a command")
    if stage.name != name:
        raise SslkitError(f"stages/{file}.py declares the stage '{stage.name}': the two names must agree")
    return stage


@cache
def stages() -> dict[str, Stage]:
    """All stages by name, in the pipeline's order."""
    found = [load(name) for name in _files()]
    return {stage.name: stage for stage in sorted(found, key=lambda stage: stage.order)}


def lines() -> dict[str, str]:
    """What each stage says in ``sslkit --help``, by name and in the pipeline's order, without importing them."""
    found = {name: _order_and_help(name, file) for name, file in _files().items()}
    return {name: found[name][1] for name in sorted(found, key=lambda name: found[name][0])}


def _files() -> dict[str, Path]:
    package = importlib.import_module(PACKAGE)
    found = [m for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and m.name != APP]
    return {m.name.replace("_", "-"): Path(m.module_finder.path, f"{m.name}.py") for m in found}  # type: ignore


def _order_and_help(name: str, file: Path) -> tuple[int, str]:
    """What the text of a file declares; it is imported where that cannot be read off."""
    try:
        call = ast.parse(DECLARATION.findall(file.read_text(encoding="utf-8"))[0], mode="eval").body
        said = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg in READ_OFF}  # type: ignore
        if said["name"] == name:
            return said["order"], said["help"]
    except (OSError, ValueError, IndexError, SyntaxError, KeyError):
        pass
    stage = load(name)
    return stage.order, stage.help


def recorded() -> dict[str, Stage]:
    """The stages that write a folder with a ``stage.json``."""
    return {name: stage for name, stage in stages().items() if stage.folder and stage.recorded}


def writer(folder: str) -> Stage:
    """The stage that writes a folder of a run."""
    return next(stage for stage in recorded().values() if stage.folder == folder)


def stage_of(stage_id: str) -> Stage:
    """The declaration behind an id such as ``"linear:augment"``."""
    return stages()[stage_id.partition(":")[0]]
