"""The tables of a report, and the report put together from them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sslkit.plots.report.charts import Point
from sslkit.plots.report.report import Cell, Headline, Measure, Report, Table
from stages.contract.layout import PRETRAIN
from stages.evaluations.members import Estimate, estimates
from stages.evaluations.protocol import Protocol
from stages.evaluations.recipes import differing, settings
from stages.evaluations.results import TOP1
from stages.reporting.facts import RunFacts, scalars
from stages.reporting.galleries import capitalised, galleries
from stages.reporting.notices import notices
from stages.reporting.origin import duration, origin, states, upright

FactsGroups = Mapping[str, Sequence[RunFacts]]  # by name a run, or the seeds of an experiment
Found = Mapping[str, Mapping[str, Estimate]]  # by run or experiment, then by the title of an evaluation
STALE = "stale"
SEVERITY = ("bad", "warn", "none", "good")
MOST_ROWS = 40  # of a table of numbers
ONE_RUN = (
    "Percent of the val images; below it the 95 % interval for other val images of the same kind (Wilson). It does not "
    "cover the randomness of training: another seed may differ by more."
)
OVER_SEEDS = (
    "Percent of the val images: mean over seeds, ± the half width of its 95 % interval (Student's t), which covers the "
    "randomness of training, not the choice of val images. A single run has the interval over val images (Wilson)."
)


def assemble(groups: FactsGroups, title: str, out: Path, tab: str = "") -> Report:
    """The whole report.

    Args:
        groups: the runs.
        title: of the page.
        out: the page's file; links to other pages are relative to it.
        tab: title in a browser's tab; the page's by default.
    """
    found = {name: estimates(those, lambda evaluation: evaluation.full_title) for name, those in groups.items()}
    every = [facts for those in groups.values() for facts in those]
    protocol = Protocol(every)
    first = {name: those[0] for name, those in groups.items()}
    return Report(
        title=title,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip(),
        about=_about(groups),
        names=list(groups),
        notices=notices(every, protocol),
        tiles=_tiles(next(iter(first.values())), next(iter(found.values()))) if len(groups) == 1 else (),
        runs=_runs(groups),
        results=_results(found, protocol),
        measures=_measures(found) if len(groups) > 1 else (),
        logs={name: [facts.log for facts in those if facts.log] for name, those in groups.items()},
        differences=_differences(groups),
        recipes=[(name, facts.recipe_text) for name, facts in first.items() if facts.recipe_text],
        galleries=galleries(list(first.values()), out),
        numbers=_numbers(first),
        states=states(every),
        origins=[origin(facts) for facts in every],
        tab=tab,
    )


def _about(groups: FactsGroups) -> str:
    runs = sum(len(those) for those in groups.values())
    words = "1 run" if runs == 1 else f"{runs} runs"
    return words if runs == len(groups) else f"{words} of {len(groups)} experiments, with their seeds"


def _tiles(facts: RunFacts, found: Mapping[str, Estimate]) -> list[Headline]:
    """The headline of a single run or experiment."""
    tiles = [Headline(title, f"{one.value:.1f} %", _between(one), STALE * one.stale) for title, one in found.items()]
    if stage := facts.stage_in(PRETRAIN):
        speed = facts.trained.get("images_per_second")
        detail = f"{duration(stage.record.get('seconds'))}{f', {speed:.0f} images/s' if speed else ''}"
        tiles.append(Headline("epochs", facts.epochs(), detail))
        tiles.append(Headline("collapse", facts.collapse()[0]))
    return tiles


def _between(one: Estimate) -> str:
    if one.half is not None:
        return f"± {one.half:.1f} over {len(one.evaluations)} seeds"
    return "{:.1f} to {:.1f}".format(*one.ends) if one.ends else ""


def _runs(groups: FactsGroups) -> Table:
    rows = []
    for name, members in groups.items():
        facts = members[0]
        verdicts = list(dict.fromkeys(f.collapse() for f in members))
        worst = min(verdicts, key=lambda verdict: SEVERITY.index(verdict[1]))
        many = f" ({sum(f.collapse() == worst for f in members)} of {len(members)})" if len(verdicts) > 1 else ""
        epochs = list(dict.fromkeys(f.epochs() for f in members))
        rows.append([
            Cell(name, f"{len(members)} seeds" if len(members) > 1 else ""),
            Cell(*facts.signal()),
            Cell(*facts.dataset()),
            Cell(*facts.encoder()),
            Cell(epochs[0] if len(epochs) == 1 else f"{epochs[0]}, ...", number=True),
            Cell(f"{worst[0]}{many}", mark=worst[1]),
        ])  # fmt: skip
    head = ["run", "recipes and training signal", "data", "encoder", "epochs", "collapse"]
    return Table("Runs" if len(rows) > 1 else "Run", head, rows)


def _columns(found: Found) -> dict[str, list[Estimate]]:
    """By title of an evaluation, the estimates of the runs that have it; own data first, in the pipeline's order."""
    columns: dict[str, list[Estimate]] = {}
    for estimate_of in found.values():
        for title, estimate in estimate_of.items():
            columns.setdefault(title, []).append(estimate)
    return dict(sorted(columns.items(), key=lambda item: item[1][0].evaluations[0].order))


def _results(found: Found, protocol: Protocol) -> Table | None:
    """Runs by evaluations; the highest of each is marked, if they are comparable."""
    columns = _columns(found)
    if not columns:
        return None
    best = {title: _highest(those, protocol) for title, those in columns.items()}
    every = [one for those in columns.values() for one in those]
    note = OVER_SEEDS if any(one.half is not None for one in every) else ONE_RUN
    drawn = [each.stage.title for one in every for each in one.evaluations if each.stage.draws and not each.stage.on]
    for title in dict.fromkeys(drawn):
        note += f" {capitalised(title)}: the interval over other draws of the labelled images (Student's t)."
    if any(value is not None for value in best.values()):
        note += " Bold: the highest of an evaluation, whether or not the intervals overlap."
    names = [Cell(f"{title} (%)") for title in columns]
    cells = [[Cell(name), *(_accuracy(by.get(c), best[c]) for c in columns)] for name, by in found.items()]
    return Table("Accuracy on val", *upright("run", "evaluation", names, cells), note)


def _highest(those: Sequence[Estimate], protocol: Protocol) -> float | None:
    """The highest value; None unless two runs have comparable ones that are not stale."""
    fresh = [one for one in those if not one.stale]
    comparable = protocol.comparable([each for one in fresh for each in one.evaluations])
    return max(one.value for one in fresh) if len(fresh) > 1 and comparable else None


def _accuracy(one: Estimate | None, best: float | None) -> Cell:
    if one is None:
        return Cell("-", number=True)
    tag = STALE * one.stale
    mark = "best" if one.value == best and not one.stale else ""
    if one.half is not None:
        seeds = ", ".join(f"{each.value:.1f}" for each in one.evaluations)
        return Cell(f"{one.value:.1f} ± {one.half:.1f}", seeds, mark, number=True, tag=tag)
    return Cell(f"{one.value:.1f}", _between(one), mark, number=True, tag=tag)


def _measures(found: Found) -> list[Measure]:
    """The results as figures; an evaluation of a single run needs none."""
    measures = []
    for title, those in _columns(found).items():
        points = [
            _point(name, number, one)
            for number, (name, by) in enumerate(found.items())
            if (one := by.get(title)) is not None
        ]
        unit = "top-1 on val (%)" if those[0].evaluations[0].metric == TOP1 else "percent"
        heading = capitalised(title) + (", with 95 % intervals" if any(p.low is not None for p in points) else "")
        measures += [Measure(heading, unit, points)] if len(points) > 1 else []
    return measures


def _point(name: str, number: int, one: Estimate) -> Point:
    low, high = one.ends or (None, None)
    return Point(
        f"{name} (stale)" if one.stale else name,
        number,
        one.value,
        None if low is None else max(low, 0.0),
        None if high is None else min(high, 100.0),  # Student's interval may leave the range of a percentage
        [each.value for each in one.evaluations] if one.half is not None else (),
    )


def _differences(groups: FactsGroups) -> Table | None:
    """Settings that are not the same in all runs that were trained."""
    found = differing(groups)
    if not found:
        return None
    trained = list(next(iter(found.values())))
    rows = [[Cell(key), *(Cell(_setting(values[name])) for name in trained)] for key, values in found.items()]
    note = f"{len(settings(groups)) - len(rows)} other settings are the same in all."
    return Table("What differs", ["setting", *trained], rows, note)


def _setting(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _numbers(shown: Mapping[str, RunFacts]) -> list[Table]:
    """A table for each stage: its numbers, with a column for each run."""
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
