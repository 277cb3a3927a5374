"""Options of the commands that read several runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stages.options.basic import JsonOption, SeedsOption


@dataclass(kw_only=True)
class RunsOptions:
    """The runs, and whether they are seeds of experiments."""

    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)]
    seeds: SeedsOption = False
    json: JsonOption = False
