"""`sslkit curves RUN [RUN ...] --out FILE.png`: logged metrics of several runs over their training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.artifacts import read_rows
from sslkit.errors import SslkitError, UsageError, did_you_mean
from sslkit.files import printable
from stages.contract.layout import Run
from stages.contract.output import say, show
from stages.contract.stage import Stage
from stages.evaluations.seeds import grouped
from stages.options.runs import RunsOptions

if TYPE_CHECKING:
    from sslkit.plots.curves import Log

COLLAPSE = ("teacher_entropy", "kl")  # arXiv:2104.14294, figure 7
METRIC_HELP = (
    "As in metrics.jsonl: dino/kl, or kl for every objective; repeatable, a panel each. Default: teacher_entropy, kl."
)

STAGE = Stage(name="curves", help="Draw the metrics that runs logged.", order=160)


@STAGE.command
@dataclass(kw_only=True)
class DrawCurves(RunsOptions):
    """Draw metrics of runs over training; by default those that show collapse, teacher entropy and KL divergence."""

    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The picture to write.", show_default=False)]
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help=METRIC_HELP, show_default=False)
    ] = None

    def execute(self) -> None:
        """Write the picture, and print where."""
        if self.out.suffix.lower() != ".png":
            raise UsageError(f"--out {self.out}: the picture is a PNG, name it {self.out.with_suffix('.png')}")
        from sslkit.plots import curves

        logs = {
            printable(name): [_log(path) for path in paths] for name, paths in grouped(self.runs, self.seeds).items()
        }
        every = [rows for group in logs.values() for rows in group]
        known, wanted, time = curves.metrics(every), self.metric or list(COLLAPSE), curves.clock(every)
        words = {*known, *map(curves.last_part, known)}
        for name in wanted:
            if not curves.matching(name, known):
                raise UsageError(f"no run logged '{name}': {did_you_mean(name, words)}")
        contents = [curves.curves_of(name, logs, time) for name in wanted]
        for name, content in zip(wanted, contents, strict=True):
            drawn = {line.colour for line in content.lines}
            for absent in [run for number, run in enumerate(logs) if number not in drawn]:
                say(f"note: {absent} logged no {name}, so it has no line there")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        curves.draw(contents, time, self.out)
        runs = {name: len(group) for name, group in logs.items()}
        show({"picture": str(self.out), "metrics": wanted, "runs": runs}, [str(self.out)], self.json)


def _log(path: Path) -> "Log":
    run = Run(path)
    rows = read_rows(run.need(run.metrics))
    if not rows:
        raise SslkitError(f"{run.metrics} is still empty: wait until the training run in {path} has logged a row")
    return rows
