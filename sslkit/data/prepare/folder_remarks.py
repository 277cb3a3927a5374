"""What a person should know about how a folder of images is laid out."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sslkit.data.prepare.split_names import split_named
from sslkit.errors import some_of

NEARLY_ALL = 0.8  # of the class folders: in five folds, one may lack a class


def repeated_subfolders(paths: Iterable[tuple[str, tuple[str, ...]]], root: Path, plain: re.Pattern) -> list[str]:
    """A remark if the class folders hold the same subfolders, as folds do: those may be the classes.

    Args:
        paths: (file name below the root, its parts from the class folder on) of every image of train.
        root: of the source.
        plain: names of subfolders that say nothing.
    """
    below: dict[str, set[str]] = {}
    above: dict[str, str] = {}
    for name, parts in paths:
        found = below.setdefault(parts[0], set())
        if len(parts) > 2:
            found.add(parts[1])
            if parts[0] not in above:
                whole = PurePosixPath(name).parts  # as the class folder was found: "/" too may be one, in an archive
                above[parts[0]] = str(PurePosixPath(*whole[: whole.index(parts[0]) + 1]))
    often = Counter(name for names in below.values() for name in names)
    same = sorted(
        name
        for name, count in often.items()
        if count >= NEARLY_ALL * len(below) and not plain.fullmatch(name) and not split_named(name)
    )
    if len(below) < 2 or len(same) < 2:
        return []
    first = above[min(above)]
    what, classes = some_of(same, 3), some_of(sorted(below), 3)
    give = f"give --source folder --root {root / first}" if root.is_dir() else f"unpack it and give --source {first}"
    return [
        f"the class folders ({classes}) hold the same subfolders ({what}): if those are the classes, "
        f"{give} for one folder, or move the images of each class into one folder"
    ]
