"""The pictures and pages that the stages of runs drew, for a report."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sslkit.plots.report.report import Gallery, Picture
from stages.contract.stage import stages
from stages.evaluations.results import StageResult
from stages.reporting.facts import RunFacts


def galleries(shown: Sequence[RunFacts], out: Path) -> list[Gallery]:
    """Pictures and pages, stage by stage.

    Args:
        shown: the runs; pictures are named after their run if there are several.
        out: file of the report, to which links are relative.
    """
    order = list(stages())
    by_stage: dict[tuple[str, str], list[tuple[RunFacts, StageResult]]] = {}
    for facts in shown:
        for stage in facts.stages:
            by_stage.setdefault((stage.on, stage.id), []).append((facts, stage))
    found = []
    for _, pairs in sorted(
        by_stage.items(), key=lambda item: (item[0][0] != "", order.index(item[1][0][1].declared.name))
    ):
        pictures = [picture for pair in pairs for picture in _pictures(*pair, alone=len(shown) == 1)]
        pages = [page for pair in pairs for page in _pages(*pair, out=out)]
        if pictures or pages:
            found.append(Gallery(_heading(pairs[0][1]), pictures, pages))
    return found


def _heading(stage: StageResult) -> str:
    own = stage.declared.gallery if stage.id == stage.declared.name and not stage.on else ""
    return own or capitalised(stage.title)


def capitalised(title: str) -> str:
    """A title as a heading; k-NN keeps its small letter.

    >>> capitalised("segmentation mIoU"), capitalised("k-NN on photos")
    ('Segmentation mIoU', 'k-NN on photos')
    """
    return title if title.startswith("k-NN") else title[0].upper() + title[1:]


def _pictures(facts: RunFacts, stage: StageResult, alone: bool) -> list[Picture]:
    listed: Any = stage.results.get("pictures")
    listed = [one for one in listed if isinstance(one, dict) and "file" in one] if isinstance(listed, list) else []
    always = () if stage.on else stage.declared.pictures
    pictures = []
    for one in [*always, *listed]:
        path, title = stage.folder / one["file"], str(one.get("title") or one["file"])
        if path.is_file():
            pictures.append(Picture(path, title if alone else f"{facts.name}: {title}", str(one.get("alt") or title)))
    return pictures


def _pages(facts: RunFacts, stage: StageResult, out: Path) -> list[tuple[str, str]]:
    """The page that a stage wrote next to its results."""
    page = stage.results.get("page")
    if not isinstance(page, str) or not (stage.folder / page).is_file():
        return []
    relative = os.path.relpath((stage.folder / page).resolve(), out.resolve().parent)
    return [(f"{facts.name}: {stage.title}", quote(os.fsencode(relative.replace(os.sep, "/"))))]
