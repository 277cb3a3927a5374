"""What a report says, put together: from what is known of runs to the tables and sections of the page."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sslkit.plots.report.charts import Point
from sslkit.plots.report.report import Cell, Gallery, Measure, Notice, Picture, Report, Table, Tile
from stages.contract.stage import stages
from stages.reporting.facts import FEW_SHOT, Accuracy, Facts, Stage, accuracies, scalars
from stages.reporting.origin import duration, origin, remarks, states, upright

Groups = Mapping[str, Sequence[Facts]]  # by name a run, or the seeds of an experiment
STALE = "stale"
SEVERITY = ("bad", "warn", "none", "good")
NO_COMPARISON = "no comparison"
OVER_DRAWS = " Few-shot: the interval over other draws of the labelled images (Student's t)."
MOST_NOTICES = 10
MOST_ROWS = 40  # of a table of numbers
GALLERIES = {"pretrain": "What the model sees", "attn-viz": "Attention", "knn": "k-NN"}
ONE_RUN = (
    "Percent of the val images; below it the 95 % interval for other val images of the same kind (Wilson). It does not "
    "cover the luck of a training: another seed may differ by more."
)
OVER_SEEDS = (
    "Percent of the val images: mean over seeds, ± the half width of its 95 % interval (Student's t), which covers the "
    "luck of a training, not the choice of val images. A run alone has the interval over val images (Wilson)."
)


def assemble(groups: Groups, title: str, out: Path, tab: str = "") -> Report:
    """The whole report.

    Args:
        groups: by name.
        title: of the page.
        out: the page's file, which links to other pages are relative to.
        tab: what a browser's tab calls it; the title by default.
    """
    found = {name: accuracies(members) for name, members in groups.items()}
    every = [facts for members in groups.values() for facts in members]
    return Report(
        title=title,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip(),
        about=_about(groups),
        names=list(groups),
        notices=_notices(every, found),
        tiles=_tiles(next(iter(groups.values())), next(iter(found.values()))) if len(groups) == 1 else (),
        runs=_runs(groups),
        results=_results(found, len(_data(every)) < 2),
        measures=_measures(found) if len(groups) > 1 else (),
        logs={name: [facts.log for facts in members if facts.log] for name, members in groups.items()},
        differences=_differences(groups),
        recipes=[(name, members[0].recipe_text) for name, members in groups.items() if members[0].recipe_text],
        galleries=_galleries(groups, out),
        numbers=_numbers(groups),
        states=states(every),
        origins=[origin(facts) for facts in every],
        tab=tab,
    )


def _about(groups: Groups) -> str:
    runs = sum(len(members) for members in groups.values())
    words = "1 run" if runs == 1 else f"{runs} runs"
    return words if runs == len(groups) else f"{words} of {len(groups)} experiments, with their seeds"


def _notices(every: Sequence[Facts], found: Mapping[str, Mapping[str, Accuracy]]) -> list[Notice]:
    """Collapse, warnings, what is unfinished or stale, and what makes figures of these runs no comparison."""
    notices = []
    for facts in every:
        name = f"{facts.name}: " if len(every) > 1 else ""
        own = [*_of_training(facts), *(notice for stage in facts.stages for notice in remarks(stage))]
        notices += [replace(notice, text=name + notice.text) for notice in own]
    if len(_data(every)) > 1:
        notices.append(Notice("warn", NO_COMPARISON, "these runs were judged on different data."))
    ks = {stage.results["k"] for facts in every if (stage := facts.stage("knn")) and "k" in stage.results}
    if len(ks) > 1:
        notices.append(Notice("warn", NO_COMPARISON, f"k-NN at different k ({', '.join(map(str, sorted(ks)))})."))
    notices.sort(key=lambda notice: notice.mark)  # "bad" before "warn"
    more = len(notices) - MOST_NOTICES
    last = Notice("warn", "more", f"{more} further remarks stand under Provenance.")
    return notices if more <= 1 else [*notices[:MOST_NOTICES], last]


def _of_training(facts: Facts) -> list[Notice]:
    verdict, mark = facts.collapse()
    collapsed = mark == "bad" and facts.training
    if collapsed and not facts.warnings:
        return [Notice("bad", "collapse", f"the training has collapsed ({verdict}).")]
    kind = "collapse" if collapsed else "warning"
    return [Notice("bad" if collapsed else "warn", kind, words) for words in facts.warnings]


def _data(every: Sequence[Facts]) -> set[str]:
    """Fingerprints of the data that the runs' features are of."""
    stages = [stage for facts in every if (stage := facts.stage("extract"))]
    return {stage.record["inputs"]["data"]["sha256"] for stage in stages if "data" in stage.record["inputs"]}


def _tiles(members: Sequence[Facts], found: Mapping[str, Accuracy]) -> list[Tile]:
    """The headline of a single run or experiment."""
    tiles = [Tile(column, f"{one.value:.1f} %", _between(one), STALE * one.stale) for column, one in found.items()]
    facts, stage = members[0], members[0].stage("pretrain")
    if stage is not None:
        speed = facts.training.get("images_per_second")
        detail = f"{duration(stage.record.get('seconds'))}{f', {speed:.0f} images/s' if speed else ''}"
        tiles.append(Tile("epochs", facts.epochs(), detail))
        tiles.append(Tile("collapse", facts.collapse()[0]))
    return tiles


def _between(one: Accuracy) -> str:
    if len(one.seeds) > 1:
        half = one.value - one.low if one.low is not None else 0.0
        return f"± {half:.1f} over {len(one.seeds)} seeds"
    return f"{one.low:.1f} to {one.high:.1f}" if one.low is not None and one.high is not None else ""


def _runs(groups: Groups) -> Table:
    rows = []
    for name, members in groups.items():
        facts = members[0]
        verdicts = list(dict.fromkeys(f.collapse() for f in members))
        worst = min(verdicts, key=lambda verdict: SEVERITY.index(verdict[1]))
        many = f" ({sum(f.collapse() == worst for f in members)} of {len(members)})" if len(verdicts) > 1 else ""
        epochs = list(dict.fromkeys(f.epochs() for f in members))
        rows.append([
            Cell(name, f"{len(members)} seeds" if len(members) > 1 else ""),
            Cell(*facts.learns_by()),
            Cell(*facts.data()),
            Cell(*facts.encoder()),
            Cell(epochs[0] if len(epochs) == 1 else f"{epochs[0]}, ...", number=True),
            Cell(f"{worst[0]}{many}", mark=worst[1]),
        ])  # fmt: skip
    head = ["run", "recipes, and what it learns by", "data", "encoder", "epochs", "collapse"]
    return Table("Runs" if len(rows) > 1 else "Run", head, rows)


def _columns(found: Mapping[str, Mapping[str, Accuracy]]) -> list[str]:
    """Every evaluation, in the order of the stages, own data first."""
    names = list(dict.fromkeys(column for by_column in found.values() for column in by_column))
    return sorted(names, key=lambda name: " on " in name)


def _results(found: Mapping[str, Mapping[str, Accuracy]], comparable: bool) -> Table | None:
    """Runs by evaluations; the highest of each is marked where the runs were judged on the same data."""
    columns = _columns(found)
    if not columns:
        return None
    best = {column: _highest(found, column) for column in columns} if comparable else {}
    note = OVER_SEEDS if any(len(one.seeds) > 1 for by in found.values() for one in by.values()) else ONE_RUN
    note += OVER_DRAWS if any(column.startswith(FEW_SHOT) for column in columns) else ""
    if any(value is not None for value in best.values()):
        note += " Bold: the highest of an evaluation, whether or not the intervals overlap."
    names = [Cell(f"{column} (%)") for column in columns]
    cells = [[Cell(name), *(_accuracy(by.get(c), best.get(c)) for c in columns)] for name, by in found.items()]
    return Table("Accuracy on val", *upright("run", "evaluation", names, cells), note)


def _highest(found: Mapping[str, Mapping[str, Accuracy]], column: str) -> float | None:
    """The highest of an evaluation; None where no two runs have one, that is not stale."""
    values = [by[column].value for by in found.values() if column in by and not by[column].stale]
    return max(values) if len(values) > 1 else None


def _accuracy(one: Accuracy | None, best: float | None) -> Cell:
    if one is None:
        return Cell("-", number=True)
    tag = STALE * one.stale
    mark = "best" if one.value == best and not one.stale else ""
    if len(one.seeds) > 1 and one.low is not None:
        seeds = ", ".join(f"{value:.1f}" for value in one.seeds)
        return Cell(f"{one.value:.1f} ± {one.value - one.low:.1f}", seeds, mark, number=True, tag=tag)
    return Cell(f"{one.value:.1f}", _between(one), mark, number=True, tag=tag)


def _measures(found: Mapping[str, Mapping[str, Accuracy]]) -> list[Measure]:
    """The same as figures; an evaluation of one run alone needs none."""
    measures = []
    for column in _columns(found):
        points = [
            Point(
                f"{name} (stale)" if one.stale else name,
                number,
                one.value,
                None if one.low is None else max(one.low, 0.0),
                None if one.high is None else min(one.high, 100.0),  # Student's t knows no bounds, percents have them
                one.seeds if len(one.seeds) > 1 else (),
            )
            for number, (name, by) in enumerate(found.items())
            if (one := by.get(column))
        ]
        title = column[0].upper() + column[1:] if not column.startswith("k-NN") else column
        unit = "percent" if column.startswith("segmentation") else "top-1 on val (%)"
        title += ", with 95 % intervals" if any(point.low is not None for point in points) else ""
        measures += [Measure(title, unit, points)] if len(points) > 1 else []
    return measures


def _differences(groups: Groups) -> Table | None:
    """Settings that are not the same in all runs that trained."""
    flat = {name: [_flat(facts.recipe) for facts in members if facts.recipe] for name, members in groups.items()}
    flat = {name: members for name, members in flat.items() if members}
    if len(flat) < 2:
        return None
    keys = list(dict.fromkeys(key for members in flat.values() for recipe in members for key in recipe))
    rows = []
    for key in keys:
        values = [", ".join(dict.fromkeys(r.get(key, "-") for r in members)) for members in flat.values()]
        # A section that is absent here and has keys of its own elsewhere differs by those.
        if len(set(values)) > 1 and not any(other.startswith(f"{key}.") for other in keys):
            rows.append([Cell(key), *map(Cell, values)])
    note = f"{len(keys) - len(rows)} other settings are the same in all." if rows else ""
    return Table("What differs", ["setting", *flat], rows, note) if rows else None


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """A nested recipe as dotted keys and short values."""
    if isinstance(value, dict) and value:
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}.{key}".strip(".")).items()}
    return {prefix: "none" if value is None else value if isinstance(value, str) else json.dumps(value)}


def _galleries(groups: Groups, out: Path) -> list[Gallery]:
    """Pictures and pages stage by stage; of seeds, those of the first."""
    shown = [members[0] for members in groups.values()]
    names = list(dict.fromkeys(stage.id + (f" on {stage.on}" if stage.on else "")
                               for facts in shown for stage in facts.stages))  # fmt: skip
    order = list(stages())
    names.sort(key=lambda name: (" on " in name, order.index(name.partition(" on ")[0].partition(":")[0])))
    galleries = []
    for name in names:
        pairs = [(f, s) for f in shown for s in f.stages if s.id + (f" on {s.on}" if s.on else "") == name]
        pictures = [picture for pair in pairs for picture in _pictures(*pair, alone=len(shown) == 1)]
        pages = [page for pair in pairs for page in _pages(*pair, out=out)]
        if pictures or pages:
            title = GALLERIES.get(name) or pairs[0][1].title
            galleries.append(Gallery(title[0].upper() + title[1:] if title != "k-NN" else title, pictures, pages))
    return galleries


def _pictures(facts: Facts, stage: Stage, alone: bool) -> list[Picture]:
    listed = stage.results.get("pictures")
    listed = [p for p in listed if isinstance(p, dict) and "file" in p] if isinstance(listed, list) else []
    views = stage.home.trained.views
    if stage.id == "pretrain" and not stage.on and views.exists():
        alt = "Crops as the model sees them, a row for each training image, and what a mask hides of them"
        listed = [{"file": views.name, "title": "Views of training images", "alt": alt}, *listed]
    pictures = []
    for one in listed:
        path, title = stage.folder / one["file"], str(one.get("title") or one["file"])
        if path.is_file():
            pictures.append(Picture(path, title if alone else f"{facts.name}: {title}", str(one.get("alt") or title)))
    return pictures


def _pages(facts: Facts, stage: Stage, out: Path) -> list[tuple[str, str]]:
    """The page that a stage wrote beside its results."""
    page = stage.results.get("page")
    if not isinstance(page, str) or not (stage.folder / page).is_file():
        return []
    relative = os.path.relpath((stage.folder / page).resolve(), out.resolve().parent)
    return [(f"{facts.name}: {stage.title}", quote(relative.replace(os.sep, "/")))]


def _numbers(groups: Groups) -> list[Table]:
    """A table for each stage: its numbers, a column for each run; of seeds, the first."""
    shown = {name: members[0] for name, members in groups.items()}
    titles = list(dict.fromkeys(s.title for facts in shown.values() for s in facts.stages if scalars(s.results)))
    tables = []
    for title in titles:
        by_run = {name: scalars(next((s.results for s in facts.stages if s.title == title), {}))
                  for name, facts in shown.items()}  # fmt: skip
        by_run = {name: values for name, values in by_run.items() if values}
        keys = list(dict.fromkeys(key for values in by_run.values() for key in values))
        rows = [[Cell(k), *(Cell(_number(v.get(k)), number=True) for v in by_run.values())] for k in keys[:MOST_ROWS]]
        more = f"And {len(keys) - MOST_ROWS} more in results.json." if len(keys) > MOST_ROWS else ""
        tables.append(Table(title, ["", *by_run], rows, more))
    return tables


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
