"""What differs between the recipes of runs."""

import json
from collections.abc import Sequence

from stages.contract.layout import Result
from stages.contract.record import leaves, value_at
from stages.evaluations.members import Groups


def settings(groups: Groups) -> list[str]:
    """Every setting of the recipes, as a sorted dotted key; a section is represented by its keys."""
    recipes = _recipes(groups)
    every = [recipe for those in recipes.values() for recipe in those]
    keys = sorted(set().union(*map(leaves, every)))
    return [key for key in keys if not any(isinstance(v := value_at(recipe, key), dict) and v for recipe in every)]


def differing(groups: Groups) -> Result:
    """The settings whose values are not the same in all runs that were trained; empty for fewer than two of them.

    Returns:
        Dotted key -> run -> its value, or the list of its seeds' values where they differ; None where the run's recipe
        has no such key.
    """
    recipes, found = _recipes(groups), {}
    for key in settings(groups):
        values = {name: _distinct([value_at(recipe, key) for recipe in those]) for name, those in recipes.items()}
        if len(_distinct(list(values.values()))) > 1:
            found[key] = {name: those[0] if len(those) == 1 else those for name, those in values.items()}
    return found


def _recipes(groups: Groups) -> dict[str, list[Result]]:
    found = {name: [member.recipe for member in members if member.recipe] for name, members in groups.items()}
    return {name: recipes for name, recipes in found.items() if recipes}


def _distinct(values: Sequence[object]) -> list[object]:
    """The values that differ when written as JSON, in order."""
    return list({json.dumps(value): value for value in values}.values())
