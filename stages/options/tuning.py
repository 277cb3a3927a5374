"""Options that tune ``sslkit finetune``; None leaves the default of ``sslkit.probes.finetuning.finetune.settings``."""

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Optional

import typer

from stages.options.splicing import spliced


class PoolChoice(str, Enum):
    """What the classifier sees."""

    cls = "cls"
    mean = "mean"


# Typer reads the annotations at run time, hence Optional on Python 3.10.
Lr = Annotated[
    Optional[list[float]],  # noqa: UP045
    typer.Option(
        "--lr", help="Per 256 images; of several the best on held-out train. Default: 0.004 (0.001 from 96 px on)."
    ),
]
Pool = Annotated[
    Optional[PoolChoice],  # noqa: UP045
    typer.Option("--pool", help="What the classifier sees. Default: CLS where there is one.", show_default=False),
]
Warmup = Annotated[str, typer.Option("--warmup", help="Epochs, or a share of the run.")]
Epochs = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--epochs", min=0, help="Passes. Default: 20 (100 from 96 px on), and at least 500 steps.", show_default=False
    ),
]
BatchSize = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--batch-size", min=1, help="Images per step. Default: 64 (256 from 96 px on).", show_default=False),
]
WeightDecay = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--weight-decay", min=0, help="Default: 0.05; none on biases and 1-D parameters.", show_default=False),
]
LayerDecay = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--layer-decay",
        min=0,
        max=1,
        help="Factor of the learning rate from a block down to the next. Default: 0.65; random: 1.",
        show_default=False,
    ),
]
DropPath = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--drop-path", min=0, max=1, help="Of the last block, linear over depth. Default: 0.1.", show_default=False
    ),
]
Mixup = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--mixup", min=0, help="Default: 0 (0.8 from 96 px on).", show_default=False),
]
Cutmix = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--cutmix", min=0, help="Default: 0 (1 from 96 px on).", show_default=False),
]
Smoothing = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--smoothing",
        min=0,
        max=1,
        help="Of the labels. Default: 0.1; with --self-train 0, and no mixing.",
        show_default=False,
    ),
]
Jitter = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--jitter", min=0, max=1, help="Probability of colour jitter. Default: 0.", show_default=False),
]
Crop = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--crop",
        min=0,
        max=1,
        help="Least share of the area in a crop. Default: 0.3 (0.08 from 96 px on).",
        show_default=False,
    ),
]
Ema = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--ema",
        min=0,
        max=1,
        help="Momentum of the average that is judged, 0 = off. Default: 0.999.",
        show_default=False,
    ),
]
Clip = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--clip", min=0, help="Gradient norm of each parameter, 0 = off. Default: 3.", show_default=False),
]
Tuning = dict[str, Any]
# By parameter, in the order of `--help`.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "lr": (Lr, None),
    "epochs": (Epochs, None),
    "batch_size": (BatchSize, None),
    "weight_decay": (WeightDecay, None),
    "layer_decay": (LayerDecay, None),
    "drop_path": (DropPath, None),
    "mixup": (Mixup, None),
    "cutmix": (Cutmix, None),
    "smoothing": (Smoothing, None),
    "jitter": (Jitter, None),
    "crop": (Crop, None),
    "ema": (Ema, None),
    "clip": (Clip, None),
    "warmup": (Warmup, "10%"),
    "pool": (Pool, None),
}


def takes_tuning(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options in the place of its parameter ``tuning``: what ``settings`` takes, by name."""
    return spliced(command, "tuning", OPTIONS, _tuning)


def _tuning(lr: list[float] | None, pool: PoolChoice | None, **others: Any) -> Tuning:
    return {**others, "lr": tuple(sorted(set(lr))) if lr else None, "pool": pool.value if pool else None}
