"""A report as one HTML file that needs nothing beside itself: no network, light and dark, paper and phone.

What stands in it is said by the dataclasses here, filled by whoever knows the runs; how it looks and behaves is in
``templates/``. Every text is escaped by the template.
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

HALF = 520  # points; what is wider has captions that half the page's width would make too small
POINTS = 72  # in an inch, and pixels in an inch of a picture that names no other number
DASHES: dict[str, str] = dict(zip(STYLES, ("", "6 3", "7 2.5 1.5 2.5", "1.5 2.5"), strict=True))


@dataclass(frozen=True)
class Cell:
    """One field of a table.

    Attributes:
        text: what it says.
        detail: a second, smaller line; may be empty.
        mark: ``best``, ``good``, ``warn``, ``bad``, ``none`` or empty.
        number: whether it stands right.
        tag: a word of warning beside it; may be empty.
    """

    text: str
    detail: str = ""
    mark: str = ""
    number: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Notice:
    """What a reader must know, told by a word and not by its colour alone.

    Attributes:
        mark: ``bad`` or ``warn``.
        kind: the word: failed, stale, collapse, ...
        text: a sentence.
        command: the command line that mends it; may be empty.
    """

    mark: str
    kind: str
    text: str
    command: str = ""


@dataclass(frozen=True)
class Tile:
    """One headline of a single run; ``tag`` is a word of warning beside it."""

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
    """One evaluation of all runs, for a figure; ``unit`` names its axis."""

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
    """Pictures under one heading, and pages of their own: (text, relative link)."""

    title: str
    pictures: Sequence[Picture] = ()
    pages: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Step:
    """How one stage of a run came about.

    Attributes:
        name: the stage.
        state: done, never run, interrupted, ...
        mark: as a cell's.
        facts: (name, value), in order.
        command: the command line that makes it again; None when it never ran.
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
    """A run's stages, and the versions they were all done with."""

    name: str
    path: str
    steps: Sequence[Step]
    versions: str = ""


@dataclass(frozen=True)
class Report:
    """All that a report says, section by section; what is empty has no section.

    Attributes:
        title: of the page.
        made: when, as a person reads it.
        about: what it reports on, in a line.
        names: of the runs or experiments, which have colours in this order.
        notices: what a reader must know first.
        tiles: the headline of a single run.
        runs: what each run is.
        results: accuracies with their intervals.
        measures: the same as figures.
        logs: by name what was logged, seed by seed.
        differences: settings that are not the same in all runs.
        recipes: (name, resolved recipe as YAML).
        galleries: pictures, stage by stage.
        numbers: everything else that stages measured.
        states: which stages were done.
        origins: where it all comes from.
        tab: what a browser's tab calls it; the title by default.
    """

    title: str
    made: str
    about: str
    names: Sequence[str]
    runs: Table
    states: Table
    origins: Sequence[Origin]
    notices: Sequence[Notice] = ()
    tiles: Sequence[Tile] = ()
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
    """The pictures that the page holds, by path, and the titles of those for which there is no room."""
    wanted = {picture.path: picture.title for gallery in galleries for picture in gallery.pictures}
    held: dict[Path, Inline] = inline(list(wanted))
    broad = {path for path in held if _points_wide(path) > HALF}
    return {
        "broad": broad,
        "held": held,
        "left_out": [f"{title} ({path.name})" for path, title in wanted.items() if path not in held],
    }


def _points_wide(path: Path) -> float:
    """How wide a picture is, measured by its letters: as many points as it has pixels, or as its resolution says."""
    with Image.open(path) as picture:
        return picture.width * POINTS / float(picture.info.get("dpi", (POINTS,))[0])
