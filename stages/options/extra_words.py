"""What a person meant by words that the parser has no place for, as in ``--set encoder.depth 2``."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

UNEXPECTED = re.compile(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", re.S)
VALUE = re.compile(r"[-+]?[\d.]+|true|false|yes|no|on|off", re.I)  # no run is called so; a switch may be given one


def advice(message: str, words: Sequence[str], options: Sequence[Any]) -> str:
    """The way to write it, to be put after the parser's message; empty where nothing is to be said.

    Args:
        message: the parser's.
        words: the command line, without the command.
        options: the command's parameters, as click has them.
    """
    found = UNEXPECTED.search(message)
    if not found:
        return ""
    named = {name: option for option in options for name in option.opts if name.startswith("-")}
    extra = found[1].split()
    hints = (_hint(words, i, named, extra) for i in range(len(words)) if words[i] in named)
    return next((hint for hint in hints if hint), "")


def _hint(words: Sequence[str], at: int, named: Mapping[str, Any], extra: Sequence[str]) -> str:
    name, option = words[at], named[words[at]]
    after = list(words[at + 1 :])
    end = next((i for i, word in enumerate(after) if word in named), len(after))
    after = after[:end]
    if option.is_flag:
        given = after[0] if after else ""
        surplus = given in extra or (given and VALUE.fullmatch(given))
        return f"{name} is a switch and takes no value: leave out {given}" if surplus else ""
    if not option.multiple or not after:
        return ""
    first, rest = after[0], after[1:]
    if option.metavar == "KEY=VALUE" and rest:
        key, _, value = first.partition("=")
        if not _whole(value):
            whole = f"{key}={_value([value, *rest])}"
            return f"write {name} {shlex.quote(whole) if ' ' in whole else whole}"
    if rest and rest[0] in extra:
        return f"write {name} before each: {name} {first} {name} {rest[0]}"
    return ""


def _whole(value: str) -> bool:
    """Whether there is a value, whose lists and sections are closed."""
    return bool(value) and all(value.count(left) <= value.count(right) for left, right in ("[]", "{}"))


def _value(words: Sequence[str]) -> str:
    """The first of the words that make a whole value, joined; an ``=`` between key and value is no part of it."""
    for count in range(1, len(words) + 1):
        value = " ".join(words[:count]).strip(" =")
        if _whole(value):
            return value
    return " ".join(words).strip(" =")
