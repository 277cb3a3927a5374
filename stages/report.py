"""`sslkit report RUN [RUN ...]`: all that is known of one or several runs, in one HTML file."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from sslkit.errors import UsageError
from stages.contract.layout import Run
from stages.contract.output import show, tab
from stages.contract.stage import Stage
from stages.evaluations.seeds import grouped
from stages.options.basic import JsonOption, SeedsOption

NAME = "report.html"
LONGEST_TITLE = 70  # letters


STAGE = Stage(name="report", help="Write one HTML page about runs.", order=170)


@STAGE.command
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)],
    out: Annotated[
        Optional[Path],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="Default: RUN/report.html, or ./report.html for several.",
            show_default=False,
        ),
    ] = None,
    seeds: SeedsOption = False,
    title: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--title", help="Heading of the page; default: the runs' names.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write one HTML file of runs: accuracies with intervals, curves, settings, pictures, and how to make it all again.

    The file needs no network and nothing beside it. It is written anew each time, also while a run still trains.
    """
    from stages.reporting.facts import read_facts

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: the report is a page, name it {out.with_suffix('.html')}")
    given = {path.resolve(): path for path in reversed(runs)}  # paths are shown as they were given
    names = {members[0]: name for name, members in grouped(runs, by_seed=False).items()}
    groups = {
        name: [read_facts(given[path], names[path]) for path in paths] for name, paths in grouped(runs, seeds).items()
    }

    from sslkit.files import atomic
    from sslkit.plots.report.report import render
    from stages.reporting.tables import assemble

    here = out or (runs[0] / NAME if len(names) == 1 else Path(NAME))
    heading = title or _title(list(groups))
    what = tab(Run(runs[0]), "report") if len(names) == 1 and not title else f"{heading}: report · sslkit"
    page = render(assemble(groups, heading, here, what)).encode()
    with atomic(here) as handle:
        handle.write(page)
    results = {"report": str(here), "bytes": len(page), "runs": [str(given[path]) for path in names]}
    show(results, [f"{here} ({_size(len(page))})"], json)


def _size(count: int) -> str:
    """Bytes as a person says them.

    >>> _size(31_400), _size(999_999), _size(1_000_000)
    ('31 kB', '1000 kB', '1.0 MB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _title(names: list[str]) -> str:
    """The names, as long as they make a heading."""
    title = ", ".join(names)
    return title if len(title) <= LONGEST_TITLE else f"{names[0]} and {len(names) - 1} others"
