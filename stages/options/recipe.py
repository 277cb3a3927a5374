"""The options that say what to train: one set of them for every command that takes a recipe."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import UsageError
from stages.contract.output import say
from stages.inputs.recipes import about_order, find, methods_in, names
from stages.options.basic import ArchOption, Precision

if TYPE_CHECKING:
    from sslkit.recipe.schema import Recipe

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
    "teacher": "method.teacher",
}


@dataclass(kw_only=True)
class RecipeOptions:
    """Recipes, and settings on top of them."""

    recipes: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="NAME", help="Recipe name or YAML file; several merge left to right."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one recipe key, as in mask.ratio=[0.1,0.5]."),
    ] = None
    epochs: Annotated[float | None, typer.Option("--epochs", help="Passes over the images.")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images per step, over all processes.")] = None
    lr: Annotated[float | None, typer.Option("--lr", help="Peak learning rate per 256 images.")] = None
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random choice.")] = None
    image_size: Annotated[int | None, typer.Option("--image-size", help="Side of the encoder's images, pixels.")] = None
    arch: ArchOption = None
    keep_every: Annotated[
        float | None,
        typer.Option("--keep-every", metavar="EPOCHS", min=0, help="Also keep the encoder at this interval."),
    ] = None
    precision: Annotated[Precision | None, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")] = None

    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="FILE|RUN|timm:NAME", help="Frozen teacher of --recipe distill."),
    ] = None

    @contextmanager
    def one_method(self, remark: Callable[[str], None] | None) -> Iterator[None]:
        """Add to the error of a method that cannot be built that several recipes name one, if so.

        Args:
            remark: told where it can be built, and all those recipes are shipped ones: a file may well change a method.

        Raises:
            UsageError: the method's.
        """
        methods = methods_in([find(name) for name in self.recipes or []])
        words = ", ".join(f"{recipe}: {name}" for recipe, name in methods.items())
        several = f"several recipes name a method ({words})"
        mixed = len(set(methods.values())) > 1
        try:
            yield
        except UsageError as error:
            if not mixed:
                raise
            raise UsageError(f"{several}: name only one of them; together they fail: {error}") from error
        if mixed and remark and set(methods) <= set(names()):
            remark(f"{several}: the last one counts, with what only the others set; name one, unless that is meant")

    def recipe(self) -> "Recipe":
        """The recipe that the options ask for; the short options win over ``--set``.

        Raises:
            UsageError: no recipe is named, or something in it is wrong.
        """
        from sslkit.recipe.schema import resolve

        if not self.recipes:
            raise UsageError(
                "name a recipe: --recipe dino, and a scale: --recipe small32 (`sslkit recipes` lists them)"
            )
        given = {key: value for name, key in SHORT.items() if (value := getattr(self, name)) is not None}
        overrides = [f"{key}={v.value if isinstance(v, Enum) else v}" for key, v in given.items()]
        if self.teacher is not None:
            overrides[-1] = f"method.teacher={json.dumps(self.teacher)}"  # a path may look like a number
        if self.arch:
            from sslkit.encoder.spec import is_vit

            if not is_vit(self.arch):
                # A scale's sizes are those of a ViT, and so is a CLS token.
                overrides += [f"encoder.{size}=null" for size in ("patch_size", "width", "depth", "heads", "cls_token")]
        paths = [find(name) for name in self.recipes]
        if remark := about_order(paths):
            say(remark)
        try:
            return resolve(paths, [*(self.settings or []), *overrides])
        except UsageError as error:
            if self.teacher is not None and "key 'method.teacher'" in str(error):
                raise UsageError("--teacher goes with a method that has a frozen one: --recipe distill") from None
            raise
