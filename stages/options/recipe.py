"""The options that say what to train: one set of them for every command that is told a recipe."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import UsageError
from stages.options.basic import ArchOption, Precision
from stages.options.splicing import spliced
from stages.recipes import find

if TYPE_CHECKING:
    from sslkit.recipe.schema import Recipe

# By parameter, in the order of `--help`. Typer reads the annotations at run time, hence Optional on Python 3.10.
OPTIONS: dict[str, Any] = {
    "recipes": Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--recipe", metavar="NAME", help="Recipe name or YAML file; several merge left to right."),
    ],
    "settings": Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="Set one recipe key, as in mask.ratio=[0.1,0.5]."),
    ],
    "epochs": Annotated[Optional[float], typer.Option("--epochs", help="Passes over the images.")],  # noqa: UP045
    "batch_size": Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--batch-size", help="Images per step, over all processes."),
    ],
    "lr": Annotated[Optional[float], typer.Option("--lr", help="Peak learning rate per 256 images.")],  # noqa: UP045
    "seed": Annotated[Optional[int], typer.Option("--seed", min=0, help="Seed of every random choice.")],  # noqa: UP045
    "image_size": Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--image-size", help="Side of the encoder's images, pixels."),
    ],
    "arch": ArchOption,
    "keep_every": Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--keep-every", metavar="EPOCHS", min=0, help="Keep the encoder of every so many epochs, too."),
    ],
    "precision": Annotated[Optional[Precision], typer.Option("--precision", help="auto, bf16 or fp32.")],  # noqa: UP045
}
# The recipe key that an option is short for.
SHORT = {
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "optim.lr",
    "seed": "train.seed",
    "image_size": "encoder.image_size",
    "arch": "encoder.arch",
    "keep_every": "train.keep_epochs",
    "precision": "train.precision",
}


def takes_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options in the place of its parameter ``recipe``, which it gets resolved and checked."""
    return spliced(command, "recipe", {name: (option, None) for name, option in OPTIONS.items()}, recipe_from)


def recipe_from(recipes: Sequence[str] | None, settings: Sequence[str] | None, **short: object) -> "Recipe":
    """The recipe that the options of a training ask for.

    Args:
        recipes: of ``--recipe``.
        settings: of ``--set``.
        short: by a key of ``SHORT`` the value of an option; None where it was not given. They win over ``settings``.

    Raises:
        UsageError: no recipe is named, or something in it is wrong.
    """
    from sslkit.recipe.schema import resolve

    if not recipes:
        raise UsageError("name a recipe: --recipe dino, and a scale: --recipe small32 (`sslkit recipes` lists them)")
    given = {key: value.value if isinstance(value, Enum) else value for key, value in short.items()}
    overrides = [f"{SHORT[key]}={value}" for key, value in given.items() if value is not None]
    if given.get("arch"):
        from sslkit.encoder.encoder import is_vit

        if not is_vit(str(given["arch"])):
            # A scale's sizes are those of a ViT.
            overrides += [f"encoder.{size}=null" for size in ("patch_size", "width", "depth", "heads")]
    return resolve([find(name) for name in recipes], [*(settings or []), *overrides])
