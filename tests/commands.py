"""What the words of a ``sslkit pretrain`` command ask for."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stages.options.recipe import SHORT, RecipeOptions

if TYPE_CHECKING:
    from sslkit.recipe.schema import Recipe


def recipe_of(words: Sequence[str], *settings: str) -> "Recipe":
    """The recipe that a command trains, from its recipes, settings and short options; ``settings`` come before its own.

    Raises:
        UsageError: there is none, or something in it is wrong.
    """
    given: dict[str, Any] = {"recipes": [], "settings": [*settings]}
    for option, value in pairwise(words):
        if option in ("--recipe", "--set"):
            given["recipes" if option == "--recipe" else "settings"].append(value)
        elif (name := option.lstrip("-").replace("-", "_")) in SHORT and option.startswith("--"):
            given[name] = value
    return RecipeOptions(**given).recipe()
