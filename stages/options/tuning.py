"""The settings of ``sslkit finetune`` as options; one that is not given keeps the default that suits the data."""

from dataclasses import Field, fields, make_dataclass
from enum import Enum
from typing import Annotated, Any, get_args

import typer

from sslkit.probes.finetuning.settings import FinetuneSettings, Pool
from sslkit.schedules import Duration

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


def _given(options: Any) -> dict[str, Any]:
    """The settings by name, as ``finetune_settings`` takes them; None where an option is not given."""
    found = {name: getattr(options, name) for name in NAMES}
    lr, pool = found["lr"], found["pool"]
    return {**found, "lr": tuple(sorted(set(lr))) if lr else None, "pool": pool.value if pool else None}


NAMES = [one.name for one in fields(FinetuneSettings) if one.metadata]  # the settings that are options
# A field for each of these settings, and the method ``given``.
TuningOptions: Any = make_dataclass(
    "TuningOptions",
    [(one.name, _annotation(one), None) for one in fields(FinetuneSettings) if one.metadata],
    namespace={"__doc__": "How the encoder is fine-tuned.", "given": _given},
    kw_only=True,
)
