"""Options that stages share, each defined once."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Device(str, Enum):
    """Where tensors live; ``auto`` takes CUDA, then MPS, then the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(str, Enum):
    """Autocast; ``auto`` is bf16 where the hardware computes in it, else fp16 on CUDA's tensor cores."""

    auto = "auto"
    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"


RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", envvar="SSLKIT_RUN", help="The run directory.", show_default=False)
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="RUN", help="The data prepared in another run; default: this run's.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Redo the stage, replacing what it wrote.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")]
WorkersOption = Annotated[str, typer.Option("--workers", metavar="N", help="Worker processes: auto or a number.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
SeedsOption = Annotated[
    bool, typer.Option("--seeds", help="Take runs named NAME-s0, NAME-s1, ... together as seeds of one experiment.")
]

LabelFractionOption = Annotated[
    float | None,
    typer.Option(
        "--label-fraction",
        metavar="SHARE",
        help="Use the labels of this share of train only, the same of every class, drawn by --seed; default: all.",
        show_default=False,
    ),
]

# Where an encoder comes from; see `stages.inputs.encoder.resolve`.
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE|RUN|timm:NAME|random|pixels",
        help="The run's own encoder if absent; weights in any layout; random or pixels for the two baselines.",
        show_default=False,
    ),
]
NoPixelsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE|RUN|timm:NAME|random",
        help="The run's own encoder if absent; weights in any layout; random for a randomly initialised one.",
        show_default=False,
    ),
]
ArchOption = Annotated[
    str | None,
    typer.Option("--arch", metavar="NAME", help="timm name of the encoder.", show_default=False),
]
PretrainedOption = Annotated[bool, typer.Option("--pretrained", help="timm's own weights of --arch; downloads.")]
LikeOption = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="RUN",
        help="With a baseline: the architecture and, without --data, the data of another run.",
        show_default=False,
    ),
]

# Sizes and photos.
PatchSizeOption = Annotated[
    int | None,
    typer.Option("--patch-size", min=1, help="Pixels, with --arch; default: the architecture's."),
]
PhotosOption = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="FILE|DIR", help="Your own photos, of any size; default: val.", show_default=False
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        metavar="N",
        help="Width x height above which a file is not opened; default: 178956970.",
        show_default=False,
    ),
]
PhotoSizeOption = Annotated[
    int | None,
    typer.Option("--image-size", min=1, help="Shorter side, pixels; default: the encoder's. At most 8192 patches."),
]


@dataclass(kw_only=True)
class RunOptions:
    """The run directory."""

    run: RunArgument


@dataclass(kw_only=True)
class ResultOptions(RunOptions):
    """What to print, and what to do with earlier results."""

    json: JsonOption = False
    force: ForceOption = False


@dataclass(kw_only=True)
class DataOptions(RunOptions):
    """The data that a stage reads."""

    data: DataOption = None
