"""A report as one HTML file that needs no other file and no network, in light and dark, on paper and on a phone.

Its content is in the dataclasses here, which the caller fills; its looks and behaviour are in ``templates/``. The
template escapes every text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from sslkit.plots.curves import Log
from sslkit.plots.figure import COLOURS, MARKERS, STYLES, style
from sslkit.plots.inline import Inline, inline
from sslkit.plots.report.charts import Chart, ChartSection, Point, dots, training
from sslkit.plots.template import render_template

HALF = 520  # points; a wider picture would have unreadably small captions at half the page's width
POINTS = 72  # per inch; also the pixels per inch of a picture that does not state its resolution
DASHES: dict[str, str] = dict(zip(STYLES, ("", "6 3", "7 2.5 1.5 2.5", "1.5 2.5"), strict=True))


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    detail: str = ""  # a second, smaller line
    mark: str = ""  # ``best``, ``good``, ``warn``, ``bad``, ``none`` or empty
    number: bool = False  # whether it is right-aligned
    tag: str = ""  # a warning in a word, next to the text


@dataclass(frozen=True)
class Notice:
    """Something that a reader must know, with a word for its kind, because colour alone is not enough."""

    mark: str  # ``bad`` or ``warn``
    kind: str  # failed, stale, collapse, ...
    text: str  # a sentence
    command: str = ""  # the command line that fixes it


@dataclass(frozen=True)
class Headline:
    """One headline of a single run; ``tag`` is a word of warning next to it."""

    name: str
    value: str
    detail: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""  # a line below the table


@dataclass(frozen=True)
class Measure:
    """One evaluation of all runs, for a figure; ``unit`` is the label of its axis."""

    title: str
    unit: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Picture:
    """A picture that a stage drew: its file, its caption, its text alternative."""

    path: Path
    title: str
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading, and links to separate pages: (text, relative link)."""

    title: str
    pictures: Sequence[Picture] = ()
    pages: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Step:
    """The provenance of one stage of a run."""

    name: str
    state: str  # done, never run, interrupted, ...
    mark: str  # as in ``Cell``
    facts: Sequence[tuple[str, str]] = ()  # (name, value)
    command: str | None = None  # the command line that reproduces it; None if it never ran
    remarks: Sequence[Notice] = ()  # what is wrong with it


@dataclass(frozen=True)
class Origin:
    """The stages of a run, and the versions of packages that all of them used."""

    name: str
    path: str
    steps: Sequence[Step]
    versions: str = ""


@dataclass(frozen=True)
class Report:
    """The content of a report, section by section; an empty section is left out."""

    title: str
    made: str  # date and time
    about: str  # what it covers, in a line
    names: Sequence[str]  # of the runs or experiments, in the order of their colours
    runs: Table
    states: Table  # of the stages
    origins: Sequence[Origin]
    notices: Sequence[Notice] = ()
    tiles: Sequence[Headline] = ()  # for a single run
    results: Table | None = None  # accuracies with their intervals
    measures: Sequence[Measure] = ()  # the results as figures
    logs: Mapping[str, Sequence[Log]] = field(default_factory=dict)  # the training logs of each name's seeds
    differences: Table | None = None  # settings that are not the same in all runs
    recipes: Sequence[tuple[str, str]] = ()  # (name, resolved recipe as YAML)
    galleries: Sequence[Gallery] = ()
    numbers: Sequence[Table] = ()  # every other number that stages measured
    tab: str = ""  # title in a browser's tab; the page's by default


@dataclass(frozen=True)
class LineStyle:
    """How a run is drawn everywhere: number of its colour, the line's dashes in pixels."""

    number: int
    name: str
    dashes: str


def render(report: Report) -> str:
    """The page as text."""
    from markupsafe import Markup

    sections: list[ChartSection] = training(report.logs)
    measures: list[Chart] = [dots(m.title, m.unit, m.points, f"dots-{n}") for n, m in enumerate(report.measures)]
    return render_template(
        "report.html.j2",
        report=report,
        sections=sections,
        measures=measures,
        styles=[LineStyle(n % len(COLOURS), name, DASHES[style(n)]) for n, name in enumerate(report.names)],
        svg=lambda chart: Markup(chart.svg),
        markers=MARKERS,
        **_pictures(report.galleries),
    )


def _pictures(galleries: Sequence[Gallery]) -> dict[str, object]:
    """The pictures in the page, by path, and the titles of those for which there is no room."""
    wanted = {picture.path: picture.title for gallery in galleries for picture in gallery.pictures}
    held: dict[Path, Inline] = inline(list(wanted))
    broad = {path for path in held if _points_wide(path) > HALF}
    return {
        "broad": broad,
        "held": held,
        "left_out": [f"{title} ({path.name})" for path, title in wanted.items() if path not in held],
    }


def _points_wide(path: Path) -> float:
    """A picture's width in points: as many as it has pixels, unless it states another resolution."""
    with Image.open(path) as picture:
        return picture.width * POINTS / float(picture.info.get("dpi", (POINTS,))[0])
