"""``sslkit recipes``: the recipes there are, and what they resolve to."""

from typing import Annotated

import typer

from stages.contract.output import put, table
from stages.contract.stage import Stage
from stages.inputs.recipes import describe, find, names

STAGE = Stage(name="recipes", help="List the recipes, or show one resolved.", order=200)
app = STAGE.command(typer.Typer(help=STAGE.help, rich_markup_mode=None))


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the recipes, each with one line on what it is; the scales come last."""
    if context.invoked_subcommand is None:
        rows = [[name, describe(find(name))] for name in names()]
        rows.sort(key=lambda row: row[1].startswith("Scale:"))
        put(table([["recipe", "what it is"], *rows]))


@app.command("show")
def show(
    recipe_names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Recipes, merged left to right.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one recipe key, as in mask.ratio=[0.1,0.5]."),
    ] = None,
) -> None:
    """Print what recipes resolve to, every default included."""
    paths = [find(name) for name in recipe_names]
    # The check needs pydantic, which takes longer to import than `--help` may take.
    from sslkit.recipe.schema import dump, resolve

    print(dump(resolve(paths, settings or [])), end="")
