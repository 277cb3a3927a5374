"""The settings of ``sslkit finetune`` as options; one that is not given keeps the default that suits the data."""

from collections.abc import Callable
from dataclasses import Field, fields
from enum import Enum
from typing import Annotated, Any, get_args

import typer

from sslkit.probes.finetuning.settings import FinetuneSettings, Pool
from sslkit.schedules import Duration
from stages.options.splicing import spliced

PoolChoice = Enum("PoolChoice", {name: name for name in get_args(Pool)}, type=str)  # typer lists an enum's values
# A setting's type -> what typer parses.
PARSED: dict[Any, Any] = {
    tuple[float, ...]: list[float],
    float | None: float,
    int | None: int,
    Duration: str,
    Pool | None: PoolChoice,
}


def _annotation(setting: Field[Any]) -> Any:
    about = setting.metadata
    option = typer.Option(
        f"--{setting.name.replace('_', '-')}",
        help=about["help"],
        min=about["low"],
        max=about["high"],
        metavar=about.get("metavar"),
        show_default=False,
    )
    return Annotated[PARSED.get(setting.type, setting.type) | None, option]


Tuning = dict[str, Any]
# By parameter, in the order of `--help`.
OPTIONS = {one.name: (_annotation(one), None) for one in fields(FinetuneSettings) if one.metadata}


def takes_tuning(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options in place of its parameter ``tuning``: keywords of ``finetune_settings``."""
    return spliced(command, "tuning", OPTIONS, _tuning)


def _tuning(lr: list[float] | None, pool: Any, **others: Any) -> Tuning:
    return {**others, "lr": tuple(sorted(set(lr))) if lr else None, "pool": pool.value if pool else None}
