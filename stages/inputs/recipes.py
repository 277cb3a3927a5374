"""The recipe files: those that are shipped, by name, and a user's own, by path."""

from pathlib import Path

from sslkit.errors import UsageError, did_you_mean

FOLDER = Path(__file__).parents[1] / "recipes"


def find(name: str) -> Path:
    """The file of a recipe: a shipped one by its name, or your own by its path.

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
