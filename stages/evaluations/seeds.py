"""Runs side by side: what each is called, which are seeds of one experiment, and how sure their mean is."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

SEED_SUFFIX = re.compile(r"-s\d+$")
ANY_SEED = "-s*"


def grouped(paths: Sequence[Path], by_seed: bool) -> dict[str, list[Path]]:
    """Run directories by the name that tells them apart.

    Args:
        paths: run directories; of one given twice the second is left out.
        by_seed: runs in one folder whose names differ only in a last ``-s<digits>`` are one group. A seed that stands
            alone keeps its whole name.

    Returns:
        By name the directories, one each without ``by_seed``, in the order given. A name is the folder's, with as many
        of its parents as set it apart from the others.
    """
    groups: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(p.resolve() for p in paths):
        seed = SEED_SUFFIX.search(path.name) if by_seed else None
        groups.setdefault(path.with_name(path.name[: seed.start()] + ANY_SEED) if seed else path, []).append(path)
    shown = [members[0] if len(members) == 1 else _without_suffix(key, groups) for key, members in groups.items()]
    return dict(zip(_names(shown), groups.values(), strict=True))


def seed_of(path: Path) -> int | None:
    """The number that ends the name of a run ``NAME-s<digits>``."""
    found = SEED_SUFFIX.search(path.resolve().name)
    return int(found.group().removeprefix("-s")) if found else None


def group_of(path: Path, groups: Mapping[str, Sequence[Path]], by_seed: bool) -> str | None:
    """The name in ``grouped``'s answer of a run; by seed also of the experiment ``path-s0``, ``path-s1``, ..."""
    wanted = path.resolve()
    for name, members in groups.items():
        if wanted in members:
            return name
    for name, members in groups.items():
        if by_seed and any(member.with_name(SEED_SUFFIX.sub("", member.name)) == wanted for member in members):
            return name
    return None


def _without_suffix(group: Path, taken: Collection[Path]) -> Path:
    """The seeds' common name, unless a run has just that."""
    bare = group.with_name(group.name.removesuffix(ANY_SEED) or group.name)
    return group if bare in taken else bare


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are all different."""
    longest = max(len(path.parts) for path in paths)
    tails = [[str(Path(*path.parts[-length:])) for path in paths] for length in range(1, longest + 1)]
    return next(names for names in tails if len(set(names)) == len(names))
