"""The loggers that a run has, and what they are shown: the rows of its log, its pictures, its results.

``logs/loggers.json`` notes which loggers there are and what identifies each experiment, so that later stages add their
results without an option. Logging never stops a run: what a logger could not take is filled in when it is next opened.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sslkit import registry
from sslkit.artifacts import DamagedFile, is_there, read_json, read_rows, read_text
from sslkit.errors import InterruptedRun, SslkitError
from sslkit.files import write_json
from sslkit.loggers.base import PACKAGE, Experiment, LoggedPicture, Logger, flat, numbers
from stages.contract.layout import ATTENTION, Result, Run
from stages.contract.output import say

NOTE, NOTED = "loggers.json", {str: {str: str}}
T = TypeVar("T")


class Loggers:
    """The open loggers of a run, as one. One that fails is left out from then on, and that is said."""

    def __init__(self, run: Run, loggers: Mapping[str, Logger]):
        self.run, self.loggers = run, dict(loggers)

    def row(self, row: Mapping[str, Any]) -> None:
        """Show a row of the log."""
        self.each(lambda logger: logger.row(row))
        self.each(lambda logger: logger.flush())

    def picture(self, picture: LoggedPicture) -> None:
        """Show a picture of the step of the last row."""
        self.each(lambda logger: logger.picture(picture))

    def close(self, complete: bool) -> None:
        """Write what is still buffered."""
        self.each(lambda logger: logger.close(complete))

    def each(self, act: Callable[[Logger], T]) -> dict[str, T]:
        """Do the same with every logger; returns by name what the ones that did it returned."""
        done = {}
        for name, logger in list(self.loggers.items()):
            try:
                done[name] = act(logger)
            except Exception as error:  # whatever a service or its package raises
                if interrupted := _interruption(error):
                    raise interrupted from error
                del self.loggers[name]
                words = " ".join(str(error).split()) or type(error).__name__
                say(
                    f"--log {name} failed ({words}); the run goes on without it, and "
                    f"`sslkit pretrain {self.run.path} ... --log {name}` fills in later what is missing"
                )
        return done


def _interruption(error: BaseException | None) -> InterruptedRun | None:
    """The signal behind an error: a package may wrap what was raised in the middle of its call."""
    while error is not None and not isinstance(error, InterruptedRun):
        error = error.__cause__ or error.__context__
    return error


def check_loggers(names: Sequence[str]) -> None:
    """Raise ``UsageError`` if there is no such logger or its package is not installed."""
    for name in names:
        registry.load(PACKAGE, name).check_installed()


def forget_loggers(run: Run) -> None:
    """Remove the loggers' files of a run that is trained from the beginning: it gets new experiments."""
    shutil.rmtree(run.logs, ignore_errors=True)


@contextmanager
def loggers_of(run: Run, names: Sequence[str] = (), announce: bool = False) -> Iterator[Loggers]:
    """The run's loggers, open, with all that the run holds so far.

    Args:
        run: the training run.
        names: loggers that it gets in addition to those that it has.
        announce: say where a person sees each experiment.
    """
    note = read_json(run.logs / NOTE, NOTED) if is_there(run.logs / NOTE) else {}
    wanted = dict.fromkeys([*note, *names])
    loggers = Loggers(run, {name: registry.load(PACKAGE, name)(run.logs / name, note.get(name, {})) for name in wanted})
    if wanted:
        experiment = _experiment(run)
        known = loggers.each(lambda logger: logger.open(experiment))
        if {**note, **known} != note:
            write_json(run.logs / NOTE, {**note, **known})
        if announce:
            for name, where in loggers.each(lambda logger: logger.where).items():
                say(f"{name}: {where}")
    try:
        yield loggers
    except BaseException:
        loggers.close(complete=False)
        raise
    loggers.close(complete=True)


def logged(run: Run, stage: str, results: Result) -> Result:
    """Add what a stage after training found to the run's experiments, if it has any; returns its results."""
    if run.results(stage).is_file() and (run.trained.logs / NOTE).exists():
        try:
            with loggers_of(run.trained):
                pass
        except SslkitError as error:
            say(f"the results were not added to the experiments in {run.trained.logs}: {error}")
    return results


def _experiment(run: Run) -> Experiment:
    """What the training run and the stages after it hold."""
    import yaml

    rows = read_rows(run.metrics)
    last = rows[-1]["step"] if rows else 0
    pictures = [LoggedPicture("views", 0, run.views)] if run.views.exists() else []
    # Those beyond the checkpoint that a run resumes from will be drawn again.
    pictures += [LoggedPicture(ATTENTION, step, path) for step, path in run.attention_pictures() if step <= last]
    return Experiment(run.title, yaml.safe_load(read_text(run.recipe)), rows, pictures, _results(run))


def _results(run: Run) -> dict[str, float]:
    """The numbers in every ``results.json`` of the run, and of the runs below ``on/``."""
    found = {}
    for home in [run, *run.transfers()]:
        for path in map(home.results, home.stages()):
            try:
                values = numbers(flat(read_json(path), "/")) if path.is_file() else {}
            except DamagedFile as error:
                say(f"{error}; its numbers are left out of the experiments")
                continue
            where = "/".join(["results", *([home.path.name] if home is not run else []), path.parent.name])
            found |= {f"{where}/{key}": value for key, value in values.items()}
    return found
