"""Settings as nested mappings, merged left to right, overridden one by one."""

from collections.abc import Mapping
from typing import Any

from sslkit.errors import UsageError
from sslkit.recipe.reading import parse


def merge(left: Mapping[str, Any], right: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """``left`` overridden by ``right``, section by section; lists are replaced whole, null removes a section.

    A key that ends in ``?`` applies only where ``left`` has it, so that a recipe that sets a scale can say how large
    a head is without giving a head to methods that have none.

    Raises:
        UsageError: a section meets a plain value of the same name; ``where`` comes before that name.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": [4]})
    {'a': {'b': 3, 'c': 2}, 'd': [4]}
    >>> merge({"teacher": {"momentum": 1}}, {"teacher?": {"momentum": 2}, "mask?": {"ratio": 3}})
    {'teacher': {'momentum': 2}}
    """
    merged = dict(left)
    for key, value in right.items():
        if key.endswith("?"):
            key = key[:-1]
            if merged.get(key) is None:
                continue
        below = merged.get(key)
        if None not in (below, value) and isinstance(below, Mapping) != isinstance(value, Mapping):
            plain = value if isinstance(below, Mapping) else below
            raise UsageError(f"{where}{key} is a section of keys; {plain!r} cannot take its place")
        merged[key] = merge(below or {}, value, f"{where}{key}.") if isinstance(value, Mapping) else value
    return merged


def override(settings: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """``settings`` with one ``a.b=value`` applied; the value is YAML.

    Raises:
        UsageError: there is no ``=``, no key before it, or the value is not YAML.

    >>> override({"mask": {"order": "high"}}, "mask.ratio=[0.1,0.5]")
    {'mask': {'order': 'high', 'ratio': [0.1, 0.5]}}
    """
    path, separator, text = assignment.partition("=")
    if not separator:
        raise UsageError(f"'{assignment}' sets nothing: write --set section.key=value")
    if not all(keys := path.split(".")):
        raise UsageError(f"'{path}' names no key: write --set section.key=value")
    value = parse(text, f"'{text}' in --set {assignment}")
    for part in reversed(keys):
        value = {part: value}
    return merge(settings, value)
