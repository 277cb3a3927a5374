"""`sslkit report RUN [RUN ...]`: everything about one or several runs in one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sslkit.errors import UsageError
from sslkit.files import atomic, printable
from stages.contract.layout import Run
from stages.contract.output import show
from stages.contract.stage import Stage
from stages.evaluations.seeds import grouped
from stages.options.runs import RunsOptions

NAME = "report.html"
LONGEST_TITLE = 70  # letters
OUT_HELP = "Default: RUN/report.html, or ./report.html for several."

STAGE = Stage(name="report", help="Write one HTML page about runs.", order=170)


@STAGE.command
@dataclass(kw_only=True)
class WriteReport(RunsOptions):
    """Write one HTML file about runs: accuracies with intervals, curves, settings, pictures, and every command.

    The file needs no network and no other file. It is rewritten each time, also while a run is still training.
    """

    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help=OUT_HELP, show_default=False)] = None
    title: Annotated[
        str | None, typer.Option("--title", help="Heading of the page; default: the runs' names.", show_default=False)
    ] = None

    def execute(self) -> None:
        """Write the page, and print where."""
        from sslkit.plots.report.report import render
        from stages.reporting.facts import read_facts
        from stages.reporting.tables import assemble

        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out {self.out}: the report is a page, name it {self.out.with_suffix('.html')}")
        names = {members[0]: name for name, members in grouped(self.runs, by_seed=False).items()}
        groups = {
            name: [read_facts(path, names[path]) for path in paths]
            for name, paths in grouped(self.runs, self.seeds).items()
        }
        out = self.out or (self.runs[0] / NAME if len(names) == 1 else Path(NAME))
        heading = self.title or _title(list(groups))
        alone = len(names) == 1 and not self.title
        tab = f"{Run(self.runs[0]).title if alone else heading}: report · sslkit"
        page = printable(render(assemble(groups, heading, out, tab))).encode()
        with atomic(out) as handle:
            handle.write(page)
        results = {"report": str(out), "bytes": len(page), "runs": [str(path) for path in names]}
        show(results, [f"{out} ({_size(len(page))})"], self.json)


def _size(count: int) -> str:
    """A number of bytes for a person.

    >>> _size(31_400), _size(999_999), _size(1_000_000)
    ('31 kB', '1000 kB', '1.0 MB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _title(names: Sequence[str]) -> str:
    """The names, or the first of them if all are too long for a heading."""
    title = ", ".join(names)
    return title if len(title) <= LONGEST_TITLE else f"{names[0]} and {len(names) - 1} others"
