"""Tables that name the class of each image: CSV, TSV, JSON, JSON lines, Parquet and text, with or without a header.

The file column is the one whose cells match most images: by path, by the end of a path, with or without a suffix. The
class column is found by its name, or it is the only other one; columns of zeros with a single 1 are classes as well.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sslkit.data.prepare.label_tables.columns import CLASS_COLUMNS, SPLIT_COLUMNS, doubts, normalised
from sslkit.data.prepare.label_tables.rows import table_rows
from sslkit.data.prepare.split_names import split_named, split_within
from sslkit.errors import SslkitError, UsageError, number_of

TABLES = frozenset({".csv", ".tsv", ".tab", ".txt", ".lst", ".json", ".jsonl", ".ndjson", ".parquet"})
MOST_COLUMNS = 10_000


class ImageNames:
    """The images of a source, found by what a table calls them."""

    def __init__(self, names: Sequence[str]):
        self.names = names
        self._by_tail: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            parts = PurePosixPath(name).parts
            stem = (*parts[:-1], PurePosixPath(name).stem)
            for start in range(len(parts)):
                for tail in {"/".join(parts[start:]), "/".join(stem[start:])}:
                    self._by_tail.setdefault(tail, []).append(i)

    def find(self, cell: str, table: str) -> int | None:
        """The image that a cell of a table names; None for none, or for several that cannot be told apart."""
        cell = cell.strip().replace("\\", "/").removeprefix("./").strip("/")
        folder = str(PurePosixPath(table).parent)
        parts = cell.split("/")
        for tail in (f"{folder}/{cell}", *("/".join(parts[start:]) for start in range(len(parts)))):
            found = self._by_tail.get(tail, [])
            if len(found) > 1:  # of train.csv's 1.png and test.csv's
                split = split_within(PurePosixPath(table).stem)
                found = [i for i in found if split and split in map(split_named, PurePosixPath(self.names[i]).parts)]
            if found:
                return found[0] if len(found) == 1 else None
        return None


@dataclass
class ImageLabels:
    """What tables say about images, by their positions.

    Attributes:
        classes: class names; images that a table does not name are missing.
        splits: ``train``, ``val`` or ``test``, where a table has such a column or its own name says so.
        tables: how each table was read, by its name.
        missing: rows that name no image.
        notes: sentences about contradictions, and about columns that are doubtful classes.
    """

    classes: dict[int, str] = field(default_factory=dict)
    splits: dict[int, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def divide(self) -> bool:
        """Whether the tables hold images out: some are of ``train`` and some are not."""
        return "train" in self.splits.values() and len(set(self.splits.values())) > 1

    def add(self, other: "ImageLabels") -> None:
        """Take over what another table says; where both name a class, the other's counts."""
        before, table = list(self.tables)[-1:], next(iter(other.tables), "")
        for what, mine, others in (("class", self.classes, other.classes), ("split", self.splits, other.splits)):
            if differing := sum(mine.get(i, value) != value for i, value in others.items()):
                self.notes.append(
                    f"{number_of(differing, 'file', 'has')} another {what} in {table} than in {before[0]} or a table "
                    f"before it; {table} counts, --labels FILE reads one table only"
                )
        self.notes += other.notes
        self.classes.update(other.classes)
        self.splits.update(other.splits)
        self.tables.update(other.tables)
        self.missing += other.missing


def is_table(name: str) -> bool:
    """Whether a file may be a table by its name."""
    return PurePosixPath(name).suffix.lower() in TABLES


def read_labels(name: str, data: bytes, images: ImageNames, column: str = "") -> ImageLabels:
    """What a table says about images.

    Args:
        name: path of the table, relative to what the images' names are relative to.
        data: its bytes.
        images: that its rows may name.
        column: header or number, from 1, of the class column; found by its name if empty.

    Returns:
        Nothing in ``tables`` if the table is about something else. ``classes`` is empty if no column holds classes.

    Raises:
        SslkitError: the table cannot be read, or has no such column.
    """
    rows = table_rows(name, data)
    width = max(map(len, rows), default=0)
    if width > MOST_COLUMNS:
        raise SslkitError(f"{name} cannot be read (it has {width} columns; tables have at most {MOST_COLUMNS})")
    found = [[images.find(row[c], name) if c < len(row) else None for row in rows] for c in range(width)]
    distinct = [len(set(column) - {None}) for column in found]
    if not any(distinct):
        return ImageLabels()
    where = distinct.index(max(distinct))
    header = rows[0] if found[where][0] is None and len(rows) > 1 else None
    body, which = (rows[1:], found[where][1:]) if header else (rows, found[where])
    if distinct[where] < min(len(body), len(images.names)) / 2 and not column:
        return ImageLabels()
    width = len(header) if header else width  # unquoted commas in a caption make cells without a title
    body = [[*row, *[""] * (width - len(row))][:width] for row in body]
    labels = ImageLabels(missing=which.count(None))
    names, took, chosen = _class_names(name, header, body, where, column)
    if chosen is not None:
        labels.notes += doubts(name, header, body, where, chosen, asked=bool(column))
    labels.classes, several = _settle(which, names)
    if 2 * len(several) > len(labels.classes):
        raise SslkitError(
            f"{name} is not used: {_contradictions(several, 'class', images, name)}; a file has one class, keep one "
            f"row of each file ({took})"
        )
    labels.notes += [f"{_contradictions(several, 'class', images, name)}; the last row counts"] if several else []
    labels.splits, several = _settle(which, _splits(name, header, body))
    labels.notes += [f"{_contradictions(several, 'split', images, name)}; the last row counts"] if several else []
    labels.tables[name] = took
    return labels


def _settle(which: Sequence[int | None], values: Sequence[str | None]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """(the last value of each image, all values of the images that have several)."""
    last: dict[int, str] = {}
    every: dict[int, list[str]] = {}
    for i, value in zip(which, values, strict=True):
        if i is not None and value:
            last[i] = value
            if value not in every.setdefault(i, []):
                every[i].append(value)
    return last, {i: given for i, given in every.items() if len(given) > 1}


def _contradictions(several: dict[int, list[str]], what: str, images: ImageNames, name: str) -> str:
    first, given = next(iter(several.items()))
    such = f"such as {images.names[first]}: {', '.join(given[:4])}"
    return f"{number_of(len(several), 'file', 'has')} more than one {what} in {name} ({such})"


def _class_names(
    name: str, header: list[str] | None, body: list[list[str]], where: int, column: str
) -> tuple[list[str], str, int | None]:
    """(the class of every row, how the columns were read, the class column if it is one)."""
    others = [c for c in range(len(body[0]) if body else 0) if c != where]
    chosen = _class_column(name, header, body, others, column)
    if chosen == where:
        more = ", ".join(header[c] if header else str(c + 1) for c in others)
        raise UsageError(
            f"--labels: column '{column}' of {name} names the files, not their classes; "
            + (f"its other columns: {more}" if others else "it has no other column")
        )
    file = f"files in {header[where]}" if header else f"files in column {where + 1}"
    if chosen is not None:
        title = header[chosen] if header else f"column {chosen + 1}"
        return _plain_numbers([row[chosen] for row in body]), f"{file}, classes in {title}", chosen
    marks = [c for c in others if {_plain(row[c]) for row in body} <= {"0", "1"}]
    if header and len(marks) > 1 and all(sum(_plain(row[c]) == "1" for c in marks) == 1 for row in body):
        names = [next(header[c] for c in marks if _plain(row[c]) == "1") for row in body]
        return names, f"{file}, a column for each class", None
    if not others:
        return [""] * len(body), f"{file}, no other column", None
    columns = ", ".join(header[c] if header else str(c + 1) for c in others)
    return [""] * len(body), f"{file}, no class column found among: {columns}", None


def _class_column(
    name: str, header: list[str] | None, body: list[list[str]], others: list[int], column: str
) -> int | None:
    titles = [normalised(title) for title in header] if header else []
    if column:
        if header and column in header:
            return header.index(column)
        if column.isdecimal() and 1 <= int(column) <= len(others) + 1:
            return int(column) - 1
        raise UsageError(
            f"--labels: {name} has no column '{column}'" + (f", only {', '.join(header)}" if header else "")
        )
    for wanted in CLASS_COLUMNS:
        if wanted in titles and titles.index(wanted) in others:
            return titles.index(wanted)
    others = [c for c in others if not titles or titles[c] not in SPLIT_COLUMNS]
    repeated = [c for c in others if 1 < len({row[c] for row in body}) < len(body)]
    if header is None and others:
        words = all(" " not in row[others[0]] for row in body)  # else captions
        return others[0] if words or others[0] in repeated else None
    return others[0] if len(others) == 1 and repeated else None


def _splits(name: str, header: list[str] | None, body: list[list[str]]) -> list[str | None]:
    """The split of every row: by a column, or by the table's own name."""
    for c, title in reversed([*enumerate(header or [])]):
        if normalised(title) in SPLIT_COLUMNS and any(split_named(row[c]) == "train" for row in body):
            return [split_named(row[c]) for row in body]
    return [split_within(PurePosixPath(name).stem)] * len(body)


def _plain(number: str) -> str:
    """``1.0`` as ``1``: tables that once had a gap hold whole numbers as floats."""
    return re.sub(r"^(-?\d+)\.0*$", r"\1", number)


def _plain_numbers(names: list[str]) -> list[str]:
    plain = [_plain(name) for name in names]
    return plain if all(not name or re.fullmatch(r"-?\d+", name) for name in plain) else names


def class_order(names: Iterable[str]) -> list[str]:
    """Class names, sorted: numbers by value.

    >>> class_order(["10", "9", "9"]), class_order(["b", "10"])
    (['9', '10'], ['10', 'b'])
    """
    distinct = set(names)
    return (
        sorted(distinct, key=int) if all(re.fullmatch(r"-?\d{1,18}", name) for name in distinct) else sorted(distinct)
    )
