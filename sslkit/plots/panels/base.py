"""A panel of the training log: which metric it shows, what it is called, and what to look for.

A file dropped into this folder holds ``PANELS``, a list of ``Panel``, and adds them to `sslkit curves` and to the
report. A metric that no panel shows is drawn under its own name.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sslkit import registry

PACKAGE = "sslkit.plots.panels"
OTHERS = "Other logged metrics"


@dataclass(frozen=True)
class Panel:
    """How one metric is drawn.

    Attributes:
        metric: the last part of its key in ``metrics.jsonl``; every objective that logs it has a line.
        axis: name of the y axis, with its unit.
        title: caption in the report.
        note: what to look for, as a sentence; may be empty.
        section: heading in the report under which it stands.
        order: of the panels of a section, and of the sections by their first panel.
        bounds: the upper bounds to draw as dashed lines: what each is called, and the metric that is logged beside
            this one and holds it.
    """

    metric: str
    axis: str
    title: str
    note: str = ""
    section: str = OTHERS
    order: int = 1000
    bounds: Mapping[str, str] | None = None


@cache
def panels() -> dict[str, Panel]:
    """Every panel by its metric, in order."""
    files = [importlib.import_module(f"{PACKAGE}.{name}") for name in registry.names(PACKAGE)]
    every = sorted((panel for file in files for panel in file.PANELS), key=lambda panel: panel.order)
    return {panel.metric: panel for panel in every}


def panel_of(metric: str) -> Panel:
    """The panel of a metric; one that no file describes has a panel under its own name.

    >>> panel_of("kl").axis, panel_of("queue_age").title
    ('KL(teacher || student) (nats)', 'Queue age')
    """
    words = metric.replace("_", " ")
    return panels().get(metric) or Panel(metric, words, words.capitalize())
