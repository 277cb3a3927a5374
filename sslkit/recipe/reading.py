"""YAML as it lies on people's disks: read with bounds, and with a line number for what is wrong."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sslkit.errors import UsageError

MOST_BYTES, MOST_VALUES, MOST_LEVELS = 1_000_000, 10_000, 20


class _Loader(yaml.SafeLoader):
    """YAML's plain values, but a key is a word and stands once in its section."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                shown = f"'{key.value}'" if isinstance(key, yaml.ScalarNode) else "that is a list or a section"
                raise yaml.MarkedYAMLError(problem=f"the key {shown} is not a word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: not readable, too large, not UTF-8, not YAML, a key that stands twice or is no word, empty, or not a
            mapping.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"recipe {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"recipe {path} has over {MOST_BYTES:,} bytes; that is not a recipe")
    value = parse(data, f"recipe {path}")
    if value is None:
        raise UsageError(f"recipe {path} is empty")
    if not isinstance(value, Mapping):
        raise UsageError(f"recipe {path} is not a mapping of sections")
    return dict(value)


def parse(text: str | bytes, where: str) -> Any:
    """The value of YAML text; bytes are UTF-8, or UTF-16 with a byte order mark.

    Raises:
        UsageError: one line that starts with ``where``.
    """
    try:
        value = yaml.load(text, _Loader)
    except yaml.reader.ReaderError as error:
        raise UsageError(f"{where} is not text in UTF-8 ({error.reason}): save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark and isinstance(text, bytes) else ""
        raise UsageError(f"{where} is not valid YAML: {str(error.problem).removeprefix('but ')}{line}") from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply") from None
    except ValueError as error:  # a date or a number that has the form of one, such as 2024-13-45
        raise UsageError(f"{where} is not valid YAML: {str(error).partition(';')[0]}") from None
    _bounded(value, where)
    return value


def _bounded(value: Any, where: str) -> None:
    """Refuse what aliases blow up, nest or close into a circle; counted as if each alias were written out."""
    waiting, count = [(value, 0)], 0
    while waiting:
        value, level = waiting.pop()
        count += 1
        if count > MOST_VALUES or level > MOST_LEVELS:
            raise UsageError(f"{where} is nested or repeated beyond what a recipe can hold (aliases counted)")
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | set | tuple) else ()
        waiting += [(part, level + 1) for part in inner]
