"""What the columns of a table are called, and what makes one a doubtful choice for the classes."""

import re
from collections.abc import Sequence

from sslkit.errors import some_of

# Normalised headers, the most telling first: a name is a better class than a number.
CLASS_COLUMNS = (
    *("classname", "labelname", "categoryname", "classlabel", "label", "class", "category", "target", "labels"),
    *("classes", "breed", "species", "diagnosis", "dx", "findinglabels", "variety", "y", "cls", "classid", "labelid"),
    *("categoryid", "level", "grade"),
)
SPLIT_COLUMNS = ("split", "set", "subset", "dataset", "datasplit", "partition")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan", re.I)
MOST_NAMED = 6  # columns in one remark


def normalised(title: str) -> str:
    """A header in lower case, letters only: ``Class_Name`` as ``classname``."""
    return re.sub(r"[^a-z]", "", title.lower())


def doubts(
    name: str, header: Sequence[str] | None, body: Sequence[Sequence[str]], where: int, chosen: int, asked: bool
) -> list[str]:
    """Remarks on values that look like no classes, and on other columns that could be meant.

    Args:
        name: of the table.
        header: titles of its columns, None without.
        body: its other rows.
        where: the column of files.
        chosen: the column of classes.
        asked: that column was asked for, so others are not.
    """
    titles = list(header) if header else [str(c + 1) for c in range(len(body[0]))]
    others = [c for c in range(len(titles)) if c not in (where, chosen)]
    remarks = _not_classes(name, titles, body, chosen, others)
    could = [c for c in others if _could_be(titles[c], body, c, chosen)]
    if could and not asked:
        named = some_of([titles[c] for c in could], MOST_NAMED)
        remarks.append(
            f"{name} has other columns that may hold classes: {named}; --labels {name}:{titles[could[0]]} takes "
            f"{'it' if len(could) == 1 else 'the first of them'}"
        )
    return remarks


def _not_classes(
    name: str, titles: Sequence[str], body: Sequence[Sequence[str]], chosen: int, others: Sequence[int]
) -> list[str]:
    values = [row[chosen] for row in body if row[chosen]]
    count, what = len(set(values)), f"{titles[chosen]} in {name}"
    named = ", ".join(titles[c] for c in others[:MOST_NAMED])
    advice = f"; --labels {name}:COLUMN takes another column ({named})" if others else ""
    fractions = all(map(NUMBER.fullmatch, values)) and not all(float(value).is_integer() for value in values)
    if fractions and 2 * count > len(values):
        return [f"{what} looks like measurements, not classes: {count} numbers in {len(values)} rows{advice}"]
    if count == len(values) > 2:
        return [f"{what} gives every image a class of its own: {count} classes{advice}"]
    return []


def _could_be(title: str, body: Sequence[Sequence[str]], c: int, chosen: int) -> bool:
    """Whether a column could hold the classes: usual by its title, or words that repeat."""
    values = [row[c] for row in body]
    count = len(set(values))
    if normalised(title) in SPLIT_COLUMNS or not 1 < count <= len(values) / 2:
        return False
    if all(NUMBER.fullmatch(value) for value in values if value):  # else a number for each class name
        pairs = len({(row[c], row[chosen]) for row in body})
        return normalised(title) in CLASS_COLUMNS and not pairs == count == len({row[chosen] for row in body})
    return True
