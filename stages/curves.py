"""`sslkit curves RUN [RUN ...] --out FILE.png`: logged metrics of several runs over their training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sslkit.errors import SslkitError, UsageError, did_you_mean
from stages.contract.layout import Run
from stages.contract.output import say, show
from stages.contract.stage import Stage
from stages.evaluations.seeds import grouped
from stages.options.basic import JsonOption, SeedsOption

if TYPE_CHECKING:
    from sslkit.plots.curves import Log

COLLAPSE = ("teacher_entropy", "kl")  # the figure of arXiv:2104.14294, section 5.3


STAGE = Stage(name="curves", help="Draw the metrics that runs logged.", order=160)


@STAGE.command
def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The picture to write.", show_default=False)],
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option(
            "--metric",
            metavar="NAME",
            help="As in metrics.jsonl: dino/kl, or kl of every objective; a panel each. Default: teacher_entropy, kl.",
            show_default=False,
        ),
    ] = None,
    seeds: SeedsOption = False,
    json: JsonOption = False,
) -> None:
    """Draw metrics of runs over training; by default the figure of collapse, teacher entropy and KL divergence."""
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is a PNG, name it {out.with_suffix('.png')}")
    from sslkit.plots import curves as plot

    logs = {name: [_log(path) for path in paths] for name, paths in grouped(runs, seeds).items()}
    every = [rows for group in logs.values() for rows in group]
    known = plot.metrics(every)
    wanted = metric or list(COLLAPSE)
    for name in wanted:
        if not plot.matching(name, known):
            words = {*known, *(key.rpartition("/")[2] for key in known)}
            raise UsageError(f"no run logged '{name}': {did_you_mean(name, words)}")
    time = plot.clock(every)
    contents = [plot.curves_of(name, logs, time) for name in wanted]
    for name, content in zip(wanted, contents, strict=True):
        drawn = {line.colour for line in content.lines}
        for absent in [run for number, run in enumerate(logs) if number not in drawn]:
            say(f"note: {absent} logged no {name}; it has no line there")
    out.parent.mkdir(parents=True, exist_ok=True)
    plot.draw(contents, time, out)
    results = {"picture": str(out), "metrics": wanted, "runs": {name: len(group) for name, group in logs.items()}}
    show(results, [str(out)], json)


def _log(path: Path) -> "Log":
    from sslkit.files import read_rows

    run = Run(path)
    rows = read_rows(run.need(run.metrics))
    if not rows:
        raise SslkitError(f"{run.metrics} holds no row yet: wait until `sslkit pretrain {path}` has logged one")
    return rows
