"""A panel of the training log: which metric it shows, its labels, and what to look for.

Each file in this folder has a list ``PANELS``; `sslkit curves` and the report draw them. A metric without a panel is
drawn under its own name.
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
    """How one metric is drawn."""

    metric: str  # the last part of its key in ``metrics.jsonl``; every objective that logs it has a line
    axis: str  # label of the y axis, with its unit
    title: str  # caption in the report
    note: str = ""  # what to look for, as a sentence
    section: str = OTHERS  # heading in the report
    order: int = 1000  # of the panels of a section, and of the sections by their first panel
    # Upper bounds, drawn as dashed lines: their names, and the metrics logged alongside that hold their values.
    bounds: Mapping[str, str] | None = None


@cache
def panels() -> dict[str, Panel]:
    """Every panel by its metric, in order."""
    files = [importlib.import_module(f"{PACKAGE}.{name}") for name in registry.names(PACKAGE)]
    every = sorted((panel for file in files for panel in file.PANELS), key=lambda panel: panel.order)
    return {panel.metric: panel for panel in every}


def panel_of(metric: str) -> Panel:
    """The panel of a metric; the default is a panel under the metric's own name.

    >>> panel_of("kl").axis, panel_of("queue_age").title
    ('KL(teacher || student) (nats)', 'Queue age')
    """
    words = metric.replace("_", " ")
    return panels().get(metric) or Panel(metric, words, words.capitalize())
