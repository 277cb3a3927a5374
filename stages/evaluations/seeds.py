"""The names of runs in a comparison, and which runs are seeds of one experiment."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

SEED_SUFFIX = re.compile(r"-s\d+$")
ANY_SEED = "-s*"


def grouped(paths: Sequence[Path], by_seed: bool) -> dict[str, list[Path]]:
    """Run directories by a name that distinguishes them.

    Args:
        paths: run directories; one that is given twice counts once.
        by_seed: runs in one folder whose names differ only in a final ``-s<digits>`` are one group. A seed without
            others keeps its whole name.

    Returns:
        The directories by name, as they were given and in that order; without ``by_seed``, one for each name. A name is
        that of the folder, with as many of its parents as it takes to distinguish it from the others.
    """
    groups: dict[Path, list[Path]] = {}
    given = {path.resolve(): path for path in reversed(paths)}
    for path in dict.fromkeys(p.resolve() for p in paths):
        seed = SEED_SUFFIX.search(path.name) if by_seed else None
        groups.setdefault(path.with_name(path.name[: seed.start()] + ANY_SEED) if seed else path, []).append(path)
    shown = [members[0] if len(members) == 1 else _without_suffix(key, groups) for key, members in groups.items()]
    return {n: [given[path] for path in group] for n, group in zip(_names(shown), groups.values(), strict=True)}


def seed_of(path: Path) -> int | None:
    """The seed of a run named ``NAME-s<digits>``; None for other names."""
    found = SEED_SUFFIX.search(path.resolve().name)
    return int(found.group().removeprefix("-s")) if found else None


def group_of(path: Path, groups: Mapping[str, Sequence[Path]], by_seed: bool) -> str | None:
    """The name that ``grouped`` gave a run; with ``by_seed`` also the experiment ``path-s0``, ``path-s1``, ..."""
    wanted = path.resolve()
    for name, members in groups.items():
        if any(member.resolve() == wanted for member in members):
            return name
    for name, members in groups.items():
        places = [member.resolve() for member in members]
        if by_seed and any(place.with_name(SEED_SUFFIX.sub("", place.name)) == wanted for place in places):
            return name
    return None


def _without_suffix(group: Path, taken: Collection[Path]) -> Path:
    """The common name of the seeds, unless a run has exactly that name."""
    bare = group.with_name(group.name.removesuffix(ANY_SEED) or group.name)
    return group if bare in taken else bare


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are all distinct."""
    longest = max(len(path.parts) for path in paths)
    tails = [[str(Path(*path.parts[-length:])) for path in paths] for length in range(1, longest + 1)]
    return next(names for names in tails if len(set(names)) == len(names))
