"""Settings as nested mappings: read from YAML, merged left to right, overridden one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sslkit.errors import UsageError


def merge(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """``left`` overridden by ``right``, section by section; lists are replaced whole, null removes a section.

    A key that ends in ``?`` applies only where ``left`` has it, so that a recipe that sets a scale can say how large
    a head is without giving a head to methods that have none.

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
        if isinstance(value, Mapping):
            below = merged.get(key)
            value = merge(below if isinstance(below, Mapping) else {}, value)
        merged[key] = value
    return merged


def override(settings: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """``settings`` with one ``a.b=value`` applied; the value is YAML.

    Raises:
        UsageError: there is no ``=``, or the value is not YAML.

    >>> override({"mask": {"order": "high"}}, "mask.ratio=[0.1,0.5]")
    {'mask': {'order': 'high', 'ratio': [0.1, 0.5]}}
    """
    path, separator, text = assignment.partition("=")
    if not separator:
        raise UsageError(f"'{assignment}' sets nothing: write --set section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"'{text}' in --set {assignment} is not a YAML value") from None
    for part in reversed(path.split(".")):
        value = {part: value}
    return merge(settings, value)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: not readable, not YAML, or not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"recipe {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"recipe {path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(value or {}, Mapping):
        raise UsageError(f"recipe {path} is not a mapping of sections")
    return dict(value or {})
