"""Options that stages share, each defined once."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sslkit.errors import UsageError
from stages.recipes import find

if TYPE_CHECKING:
    from sslkit.recipe import Recipe


class Device(str, Enum):
    """Where tensors live; ``auto`` takes CUDA, then MPS, then the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(str, Enum):
    """Autocast; ``auto`` is bf16 where the hardware computes in it."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", envvar="SSLKIT_RUN", help="The run directory.", show_default=False)
]
DataOption = Annotated[
    Optional[Path],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
    typer.Option("--data", metavar="RUN", help="Use the data prepared in another run.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Redo the stage, replacing what it wrote.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="auto, bf16 or fp32.")]
WorkersOption = Annotated[str, typer.Option("--workers", metavar="N", help="Loader processes: auto or a number.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
SeedsOption = Annotated[
    bool, typer.Option("--seeds", help="Take runs named NAME-s0, NAME-s1, ... together as seeds of one experiment.")
]

# Where an encoder comes from; `encoder_source.resolve` reads them.
WeightsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--weights",
        metavar="FILE|random|pixels",
        help="The run's own encoder if absent; a checkpoint FILE; random or pixels for the two baselines.",
        show_default=False,
    ),
]
ArchOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--arch", metavar="NAME", help="timm name of the encoder.", show_default=False),
]
PretrainedOption = Annotated[bool, typer.Option("--pretrained", help="timm's own weights of --arch; downloads.")]
LikeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--like",
        metavar="RUN",
        help="With a baseline: the architecture and, without --data, the data of another run.",
        show_default=False,
    ),
]

# What a training is told; `recipe_from` reads them. Each but the first two is short for a recipe key.
RecipesOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--recipe", metavar="NAME", help="Recipe name or YAML file; several merge left to right."),
]
SettingsOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Set one recipe key, as in mask.ratio=[0.1,0.5]."),
]
EpochsOption = Annotated[Optional[float], typer.Option("--epochs", help="Passes over the images.")]  # noqa: UP045
BatchSizeOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--batch-size", help="Images per step, over all processes."),
]
LrOption = Annotated[Optional[float], typer.Option("--lr", help="Peak learning rate per 256 images.")]  # noqa: UP045
RecipeSeedOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--seed", min=0, help="Seed of every random choice."),
]
ImageSizeOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--image-size", help="Side of the encoder's images, pixels."),
]
RecipePrecisionOption = Annotated[
    Optional[Precision],  # noqa: UP045
    typer.Option("--precision", help="auto, bf16 or fp32."),
]
SHORT = {
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "optim.lr",
    "seed": "train.seed",
    "image_size": "encoder.image_size",
    "arch": "encoder.arch",
    "precision": "train.precision",
}


def recipe_from(names: Sequence[str] | None, settings: Sequence[str] | None, **short: object) -> "Recipe":
    """The recipe that the options of a training ask for.

    Args:
        names: of ``--recipe``.
        settings: of ``--set``.
        short: by a key of ``SHORT`` the value of an option; None where it was not given. They win over ``settings``.

    Raises:
        UsageError: no recipe is named, or something in it is wrong.
    """
    from sslkit.recipe import resolve

    if not names:
        raise UsageError("name a recipe: --recipe dino, and a scale: --recipe small32 (`sslkit recipes` lists them)")
    given = {key: value.value if isinstance(value, Enum) else value for key, value in short.items()}
    overrides = [f"{SHORT[key]}={value}" for key, value in given.items() if value is not None]
    if given.get("arch"):
        from sslkit.encoder import is_vit

        if not is_vit(str(given["arch"])):
            # A scale's sizes are those of a ViT.
            overrides += [f"encoder.{size}=null" for size in ("patch_size", "width", "depth", "heads")]
    return resolve([find(name) for name in names], [*(settings or []), *overrides])
