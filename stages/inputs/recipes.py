"""The recipe files: those that are shipped, by name, and a user's own, by path."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import UsageError, did_you_mean, number_of

if TYPE_CHECKING:
    from sslkit.schedules import Momentum

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
    with path.open(encoding="utf-8", errors="replace") as handle:
        first = next((line for line in handle if line.strip()), "")
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


def about_order(paths: Sequence[Path]) -> str:
    """A remark where a scale stands before a method: what it says about heads that come later is lost; else empty."""
    from sslkit.recipe.schema import with_base

    scales = [not any({"method", "objectives"} & layer.keys() for _, layer in with_base(path)) for path in paths]
    if not any(first and not second for first, second in pairwise(scales)):
        return ""
    method, scale = (paths[scales.index(kind)].stem for kind in (False, True))
    return f"the scale goes last: --recipe {method} --recipe {scale}; what comes later overrides what comes before"


def methods_in(paths: Sequence[Path]) -> dict[str, str]:
    """The method that each of these recipes names, if it does, itself or in its ``base``; by the recipe's name."""
    from sslkit.recipe.schema import with_base

    found = {}
    for path in paths:
        for _, layer in with_base(path):
            method = layer.get("method")
            name = method.get("name") if isinstance(method, Mapping) else method
            if name:
                found[path.name if path.parent != FOLDER else path.stem] = str(name)
    return found


def about_scale(size: int, largest: Sequence[int]) -> str:
    """A remark where images are enlarged more than twice, as where no scale is named; else empty.

    Args:
        size: of the recipe's views, pixels.
        largest: height and width of the largest training image; empty where they are unknown.
    """
    side = max(largest, default=size)
    if size <= 2 * side:
        return ""
    scale = next(name for name, most in (("small32", 48), ("small64", 112), ("imagenet-subset", size)) if side <= most)
    return (
        f"views of {size} pixels are made of images of at most {side}: a scale for such images, as in "
        f"--recipe {scale}, trains much faster"
    )


def about_momentum(momentum: "tuple[Momentum, Momentum]", steps: int, exported: str) -> str:
    """A remark where the teacher never moves, or follows each step in full without being told to; else empty.

    Args:
        momentum: of the recipe, at the start and at the end.
        steps: of the whole run.
        exported: whose encoder the run writes, "teacher" or "student".
    """
    from sslkit.schedules import momentum_over

    if momentum == (1, 1) and exported == "teacher":
        return "teacher.momentum of 1 throughout: the teacher, whose encoder is written, stays as it starts"
    first, last = (str(value).endswith("%") and momentum_over(value, steps) == 0 for value in momentum)
    if not (first or last):
        return ""
    when = "throughout" if first and last else "at the start" if first else "at the end"
    return (
        f"teacher.momentum: {momentum[0] if first else momentum[1]} of {number_of(steps, 'step')} is no more than one, "
        f"so the teacher copies the student {when}"
    )
