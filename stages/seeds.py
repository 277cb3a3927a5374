"""Runs side by side: what each is called, which are seeds of one experiment, and how sure their mean is."""

import re
from collections.abc import Collection, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

SEED_SUFFIX = re.compile(r"-s\d+$")
ANY_SEED = "-s*"
# Quantiles 0.975 of Student's t distribution for 1 to 10 degrees of freedom.
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
NORMAL_QUANTILE = 1.959964


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


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent runs and the half width of its 95 % interval by Student's t; None for a single run."""
    if len(values) < 2:
        return mean(values), None
    return mean(values), t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))


def t_quantile(freedom: int) -> float:
    """Quantile 0.975 of Student's t; beyond the table by its expansion around the normal's, right to 0.003."""
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    z = NORMAL_QUANTILE
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
