"""Samples of WebDataset tars: which members belong together, and where their labels are."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sslkit.data.class_balanced import MOST_CLASSES
from sslkit.data.prepare import formats
from sslkit.errors import SslkitError, number_of

IMAGES = (
    "jpg",
    "jpeg",
    "png",
    "webp",
    "bmp",
    "gif",
    "tif",
    "tiff",
    "ppm",
    "pgm",
    "avif",
    "heic",
    "heif",
    "jxl",
    "jfif",
    "npy",  # last: next to a picture it holds something else
)
LABELS = ("cls", "json")
KNOWN = {*IMAGES, *LABELS, "txt", "text", "caption", "mask.png", "seg.png", "depth.png"}
LABEL_KEYS = ("label", "cls", "class", "class_id", "label_id", "category_id", "class_index", "target", "category")
NAME_KEYS = ("class_name", "label_name", "category_name", "classname", "label_text")
MOST_DIGITS = 18  # of a number; text of more is a name
Member = dict[str, int]  # extension -> position in its tar


def group(names: Iterable[str]) -> tuple[dict[str, Member], int]:
    """Members of every sample by its key, and how many keys hold a dot.

    The extension is the longest known ending: ``scan.5x.jpg`` is the image of the sample ``scan.5x``. A file with an
    unknown compound ending and no label of its own, such as ``a.left.png`` next to ``a.cls``, belongs to ``a``, as
    webdataset has it.
    """
    found: dict[str, Member] = {}
    for position, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        stem, extension = _split(file)
        found.setdefault(f"{folder}/{stem}" if folder else stem, {})[extension] = position
    dotted = 0
    for key in [key for key in found if "." in key.rpartition("/")[2]]:
        folder, slash, file = key.rpartition("/")
        short, _, rest = file.partition(".")
        base = f"{folder}{slash}{short}"
        if base in found and found[key].keys().isdisjoint(LABELS):
            found[base] |= {f"{rest.lower()}.{extension}": position for extension, position in found.pop(key).items()}
        else:
            dotted += 1
    return found, dotted


def _split(file: str) -> tuple[str, str]:
    """(stem, extension): at the first dot whose rest is a known ending, else at the first dot."""
    first = file.find(".")
    at = first
    while at > 0:
        if file[at + 1 :].lower() in KNOWN:
            return file[:at], file[at + 1 :].lower()
        at = file.find(".", at + 1)
    return (file, "") if first < 0 else (file[:first], file[first + 1 :].lower())


def image_of(members: Iterable[str]) -> str | None:
    """The member that is a sample's image."""
    readable = formats.readable() | {formats.ARRAYS}
    return next((name for name in IMAGES if name in members and f".{name}" in readable), None)


def can_be_kept(extension: str) -> bool:
    """Whether another member of a sample can go along.

    A second image could be taken for the first, and webdataset writes no name that begins with an underscore.
    """
    return bool(extension) and not extension.startswith("_") and extension not in IMAGES


def looks_like_samples(names: Iterable[str]) -> bool:
    """Whether a tar's names are samples: images whose labels or texts have the same key."""
    found, _ = group(names)
    return any(image_of(members) and not members.keys().isdisjoint({*LABELS, "txt"}) for members in found.values())


def numbered(values: list[Any], name: Callable[[int], str]) -> tuple[np.ndarray, list[str] | None, list[str]]:
    """Labels int64 (N,), the class names if the values are names, and remarks: -1 for None and for negative numbers.

    Args:
        values: numbers, or what can be read as such, or names.
        name: what to call the sample of a value.

    Raises:
        SslkitError: a value is neither a number nor a name, or a number beyond all reason.
    """
    values = [None if isinstance(value, float) and value != value else value for value in values]  # NaN: no label
    odd = next((i for i, value in enumerate(values) if not isinstance(value, int | float | str | bytes | None)), None)
    if odd is not None:
        raise SslkitError(
            f"{name(odd)} has the label {str(values[odd])[:60]}, which is neither a number nor a name: "
            "--label-key names another key or column"
        )
    try:
        numbers = [-1 if value is None else _whole(value) for value in values]
    except ValueError:
        names = sorted({_word(value) for value in values if value is not None})
        position = {name: i for i, name in enumerate(names)}
        return np.array([-1 if v is None else position[_word(v)] for v in values], np.int64), names, []
    if (most := max(numbers, default=-1)) >= MOST_CLASSES:
        raise SslkitError(
            f"{name(numbers.index(most))} has the label {str(most)[:40]}; classes are numbered from 0 to "
            f"{MOST_CLASSES - 1}: number them anew, or give them names"
        )
    negative = sum(number < 0 for number, value in zip(numbers, values, strict=True) if value is not None)
    unusual = sum(number < -1 for number in numbers)
    remarks = [f"{number_of(negative, 'image', 'has')} a negative label, which counts as none"] if unusual else []
    return np.array([max(-1, number) for number in numbers], np.int64), None, remarks


def _whole(value: float | str | bytes) -> int:
    """A whole number; ``ValueError`` for anything else."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _word(value: Any) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def json_labels(facts: list[dict[str, Any]], key: str | None) -> tuple[list[Any], list[str] | None, str | None]:
    """Labels in the json members of samples.

    Args:
        facts: the json members.
        key: where the label is, with dots between the keys of nested objects; None looks for a usual one.

    Returns:
        (value or None of every sample, names by number if each number always has the same, the key).
    """
    keys = Counter(k for one in facts for k in one)
    chosen = key or next((k for k in (*LABEL_KEYS, *NAME_KEYS) if k in keys and _usable(facts, k)), None)
    if chosen is None:
        return [None] * len(facts), None, None
    values = [_scalar(_at(one, chosen)) for one in facts]
    name_key = next((k for k in NAME_KEYS if k in keys and k != chosen), None)
    return values, _names(facts, values, name_key) if name_key else None, chosen


def _usable(facts: list[dict[str, Any]], key: str) -> bool:
    return all(_scalar(one[key]) is not None for one in facts if one.get(key) is not None)


def _names(facts: list[dict[str, Any]], values: list[Any], key: str) -> list[str] | None:
    pairs = {(value, one[key]) for one, value in zip(facts, values, strict=True) if isinstance(one.get(key), str)}
    named = {value: name for value, name in pairs if isinstance(value, int) and value >= 0}
    if not named or len(pairs) != len(named) or max(named) >= MOST_CLASSES:
        return None
    return [named.get(i, str(i)) for i in range(max(named) + 1)]


def _at(facts: Any, key: str) -> Any:
    if isinstance(facts, dict) and key in facts:
        return facts[key]
    for part in key.split("."):
        facts = facts.get(part) if isinstance(facts, dict) else None
    return facts


def _scalar(value: Any) -> int | str | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) <= MOST_DIGITS else value
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return None


def cls_value(data: bytes) -> int | str | None:
    """What a ``cls`` member holds: a number or a name."""
    text = data.decode(errors="surrogateescape").strip()
    try:
        return int(text)
    except ValueError:
        return text or None


def parsed(data: bytes) -> dict[str, Any] | None:
    """A json member as an object; None if it is damaged."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else {"json": value}
