"""`sslkit recipes`: what recipes there are, and what one resolves to."""

from pathlib import Path
from typing import Annotated

import typer

from sslkit.errors import UsageError, did_you_mean
from stages.contract.output import table
from stages.contract.stage import Stage

FOLDER = Path(__file__).with_suffix("")

STAGE = Stage(name="recipes", help="List the recipes, or show one resolved.", order=200)
app = STAGE.command(typer.Typer(help=STAGE.help, rich_markup_mode=None))


def find(name: str) -> Path:
    """The file of a recipe: a shipped one by its name, or a path to one's own.

    Raises:
        UsageError: neither; the nearest shipped name is suggested.
    """
    if name in names():
        return FOLDER / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    raise UsageError(f"no recipe named '{name}', and no such YAML file: {did_you_mean(name, names())}")


def names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def describe(path: Path) -> str:
    """A recipe in one line: the first comment of its file."""
    with path.open() as handle:
        first = next((line for line in handle if line.strip()), "")
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the recipes, each with one line on what it is; the scales come last."""
    if context.invoked_subcommand is None:
        rows = [[name, describe(find(name))] for name in names()]
        rows.sort(key=lambda row: row[1].startswith("Scale:"))
        print("\n".join(table([["recipe", "what it is"], *rows])))


@app.command("show")
def show(
    recipe_names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Recipes, merged left to right.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one key, as in mask.ratio=[0.1,0.5]."),
    ] = None,
) -> None:
    """Print what recipes resolve to, every default included."""
    paths = [find(name) for name in recipe_names]
    # The check needs pydantic, which takes longer to import than `--help` may take.
    from sslkit.recipe.schema import dump, resolve

    print(dump(resolve(paths, settings or [])), end="")
