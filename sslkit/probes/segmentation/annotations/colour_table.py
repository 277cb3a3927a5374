"""Colours of classes: files such as ``label_colors.txt`` and ``class_dict.csv``, which lie next to coloured masks."""

import csv
import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslkit.errors import SslkitError
from sslkit.files import check_regular

SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".gpl")
LIKELY = re.compile(r"colou?r|palette|class|label|legend|codes", re.I)
MOST_BYTES = 1 << 20
INTEGER = r"(?<![\d.])(\d{1,3})(?![\d.])"
TRIPLE = re.compile(rf"{INTEGER}[\s,;:]+{INTEGER}[\s,;:]+{INTEGER}")
NAME = re.compile(r"[A-Za-z][A-Za-z _'()/-]*")  # numbers would be labels or photos
HEXADECIMAL = re.compile(r"#([0-9a-f]{6})\b", re.I)
CHANNELS = {"r": "r", "red": "r", "g": "g", "green": "g", "b": "b", "blue": "b"}


@dataclass(frozen=True)
class ColourTable:
    """The colour of each class; a class's value is its row."""

    source: str
    colours: Sequence[int]  # 0xRRGGBB; empty if there are only names
    names: Sequence[str]

    def fits(self, seen: Collection[int]) -> bool:
        """Whether it has most of the colours that were seen in masks."""
        return 2 * len(set(seen) & set(self.colours)) >= len(seen)


def read_table(path: Path) -> ColourTable:
    """Read a table of colours: three numbers from 0 to 255 or ``#rrggbb`` in a row, and a name before or after.

    A text file with nothing but a name in each line has the names of classes from 0.

    Raises:
        SslkitError: it cannot be read, or has fewer than two classes.
    """
    try:
        check_regular(path)
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        rows = list(_from_json(json.loads(text)) if path.suffix.lower() == ".json" else _from_lines(text))
    except (OSError, ValueError, csv.Error) as error:
        raise SslkitError(f"{path} cannot be read as a table of colours ({str(error).splitlines()[0][:80]})") from error
    first: dict[int, str] = {}
    for colour, name in rows:
        first.setdefault(colour, name)  # CamVid's tables have no colour twice; others join classes by it
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not first and len(lines) > 1 and all(NAME.fullmatch(line) for line in lines):
        return ColourTable(path.name, [], lines)
    if len(first) < 2:
        raise SslkitError(f"{path} holds {len(first)} colours: a table has a class a line, as in: 128 0 0 car")
    return ColourTable(path.name, list(first), [name or f"#{colour:06x}" for colour, name in first.items()])


def find_table(folder: Path, seen: Collection[int], up: int = 2) -> ColourTable | None:
    """The table that fits the colours of masks, in their folder or in one of the folders above; None without one."""
    return next((table for _, table in tables_near(folder, up) if table.fits(seen)), None)


def tables_near(folder: Path, up: int = 2) -> Iterator[tuple[Path, ColourTable]]:
    """The tables in a folder and in those above it."""
    for _ in range(up + 1):
        files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and LIKELY.search(p.stem)]
        for path in files:
            if path.is_file() and path.stat().st_size < MOST_BYTES:
                with suppress(SslkitError):  # another kind of file with such a name
                    yield path, read_table(path)
        folder = folder.parent


def _from_lines(text: str) -> Iterator[tuple[int, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    header = (
        [CHANNELS.get(word.strip().strip('"').lower(), word.strip().lower()) for word in _cells(lines[0])]
        if lines
        else []
    )
    if all(channel in header for channel in "rgb"):
        for cells in map(_cells, lines[1:]):
            row = dict(zip(header, cells, strict=False))
            red, green, blue = (int(row[channel]) for channel in "rgb")
            rest = [row[word] for word in header if word not in "rgb" and word in row]
            yield _packed(red, green, blue), _name(" , ".join(rest))
        return
    for line in lines:
        if found := TRIPLE.search(line):
            yield _packed(*map(int, found.groups())), _name(line[: found.start()] + "," + line[found.end() :])
        elif found := HEXADECIMAL.search(line):
            yield int(found[1], 16), _name(line[: found.start()] + "," + line[found.end() :])


def _cells(line: str) -> list[str]:
    separator = max(",;\t", key=line.count)
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]


def _from_json(found: Any) -> Iterator[tuple[int, str]]:
    """``{name: [r, g, b]}``, or a list of objects with a colour and a name among their values."""
    if isinstance(found, dict):
        nested = next(
            (value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)),
            None,
        )
        found = nested if nested is not None else [{"name": name, "color": value} for name, value in found.items()]
    for entry in found if isinstance(found, list) else []:
        values = list(entry.values()) if isinstance(entry, dict) else []
        words = [str(value) for value in values if isinstance(value, str) and not HEXADECIMAL.fullmatch(value)]
        named = entry.get("name") or entry.get("label") or (words or [""])[0] if isinstance(entry, dict) else ""
        for value in values:
            if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) for v in value):
                yield _packed(*value), str(named)
            elif isinstance(value, str) and (match := HEXADECIMAL.fullmatch(value)):
                yield int(match[1], 16), str(named)


def _packed(red: int, green: int, blue: int) -> int:
    if max(red, green, blue) > 255:
        raise ValueError(f"{red} {green} {blue} is no colour")
    return red << 16 | green << 8 | blue


def _name(rest: str) -> str:
    """The first word with a letter in what a line holds besides the colour."""
    words = (word.strip(" \t'\"#()[]") for word in re.split(r"[,;:\t]", rest))
    return next((word for word in words if any(map(str.isalpha, word))), "")
