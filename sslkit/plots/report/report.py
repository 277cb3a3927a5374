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
    """One cell of a table.

    Attributes:
        text: its content.
        detail: a second, smaller line; may be empty.
        mark: ``best``, ``good``, ``warn``, ``bad``, ``none`` or empty.
        number: whether it is right-aligned.
        tag: a word of warning next to the text; may be empty.
    """

    text: str
    detail: str = ""
    mark: str = ""
    number: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Notice:
    """Something that a reader must know, said by a word and not only by its colour.

    Attributes:
        mark: ``bad`` or ``warn``.
        kind: the word: failed, stale, collapse, ...
        text: a sentence.
        command: the command line that fixes it; may be empty.
    """

    mark: str
    kind: str
    text: str
    command: str = ""


@dataclass(frozen=True)
class Headline:
    """One headline of a single run; ``tag`` is a word of warning next to it."""

    name: str
    value: str
    detail: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        title: its caption.
        head: a name for each column.
        rows: the cells, as many as names.
        note: a line below it; may be empty.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


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
    """The provenance of one stage of a run.

    Attributes:
        name: the stage.
        state: done, never run, interrupted, ...
        mark: as in ``Cell``.
        facts: (name, value), in order.
        command: the command line that reproduces it; None if it never ran.
        remarks: what is wrong with it.
    """

    name: str
    state: str
    mark: str
    facts: Sequence[tuple[str, str]] = ()
    command: str | None = None
    remarks: Sequence[Notice] = ()


@dataclass(frozen=True)
class Origin:
    """The stages of a run, and the versions of packages that all of them used."""

    name: str
    path: str
    steps: Sequence[Step]
    versions: str = ""


@dataclass(frozen=True)
class Report:
    """The content of a report, section by section; an empty section is left out.

    Attributes:
        title: of the page.
        made: when, as a person reads it.
        about: what it covers, in a line.
        names: of the runs or experiments, in the order of their colours.
        notices: what a reader must know first.
        tiles: the headline of a single run.
        runs: what each run is.
        results: accuracies with their intervals.
        measures: the results as figures.
        logs: by name the training logs, seed by seed.
        differences: settings that are not the same in all runs.
        recipes: (name, resolved recipe as YAML).
        galleries: pictures, stage by stage.
        numbers: every other number that stages measured.
        states: which stages were done.
        origins: the provenance of everything.
        tab: title in a browser's tab; the page's by default.
    """

    title: str
    made: str
    about: str
    names: Sequence[str]
    runs: Table
    states: Table
    origins: Sequence[Origin]
    notices: Sequence[Notice] = ()
    tiles: Sequence[Headline] = ()
    results: Table | None = None
    measures: Sequence[Measure] = ()
    logs: Mapping[str, Sequence[Log]] = field(default_factory=dict)
    differences: Table | None = None
    recipes: Sequence[tuple[str, str]] = ()
    galleries: Sequence[Gallery] = ()
    numbers: Sequence[Table] = ()
    tab: str = ""


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
