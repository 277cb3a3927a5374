"""Which samples of a source are used: class-balanced, seeded and nested.

Each class has an order drawn from (seed, class name), and a subset takes its beginning. So 1 % lies inside 10 %, and
what is chosen of a class depends on no other class.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sslkit.data.labels import at_least_one, by_class, class_orders, firsts, held_out
from sslkit.errors import SslkitError, UsageError
from sslkit.rng import generator

UNLABELLED = ""  # the name of the class that images without a label make


@dataclass(frozen=True)
class Subset:
    """What ``prepare`` is asked to take.

    Attributes:
        fraction: share of every class of train, in (0, 1].
        per_class: images of every class of train, instead of a fraction.
        classes: a number of classes, drawn by the seed, or their names; None for all.
        val_fraction: share of every class of train held out as val, where the source has no val.
        seed: of every choice.
    """

    fraction: float | None = None
    per_class: int | None = None
    classes: int | tuple[str, ...] | None = None
    val_fraction: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.fraction is not None and self.per_class is not None:
            raise UsageError("--fraction and --per-class exclude each other: give one")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise UsageError(f"--fraction {self.fraction}: expected a number above 0 and up to 1 (0.2 is 20 %)")
        if self.per_class is not None and self.per_class < 1:
            raise UsageError(f"--per-class {self.per_class}: expected a number of images from 1")
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise UsageError(f"--val-fraction {self.val_fraction}: expected a number between 0 and 1")

    def count(self, available: int) -> int:
        """How many of a class's images are taken; at least one."""
        if self.per_class is not None:
            return min(self.per_class, available)
        return available if self.fraction is None else at_least_one(self.fraction, available)


@dataclass(frozen=True)
class Selection:
    """The chosen samples.

    Attributes:
        classes: chosen class names, in the source's order.
        indices: per split, positions in the source's split, int64 (M,), ascending.
        labels: per split, numbers in ``classes``, int64 (M,), -1 for none.
    """

    classes: list[str]
    indices: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def select(splits: dict[str, np.ndarray], classes: list[str], subset: Subset) -> Selection:
    """Choose samples of a source.

    Args:
        splits: labels (N,) of every split, -1 for none, as ``Source.splits`` gives them.
        classes: the source's class names.
        subset: what to take. Of val only the classes are chosen, so that every subset is evaluated on the same val.

    Raises:
        UsageError: what is asked for contradicts what there is.
    """
    if "train" not in splits:
        raise SslkitError(f"the source has no train split, only {', '.join(splits) or 'nothing'}")
    chosen = choose_classes(classes, subset.classes, subset.seed)
    numbers = np.full(len(classes) + 1, -1)  # the last entry is where the label -1 points
    numbers[chosen] = np.arange(len(chosen))
    wanted = np.zeros(len(classes) + 1, bool)
    wanted[chosen] = True
    wanted[-1] = subset.classes is None
    indices = {split: np.flatnonzero(wanted[labels]) for split, labels in splits.items()}
    if subset.val_fraction is not None:
        if "val" in splits:
            raise UsageError("--val-fraction is for sources without a val split; this one has its own")
        # Before train is cut down: val is the same for every subset of train.
        groups = _groups(splits["train"], indices["train"], classes)
        indices["val"] = held_out(groups, subset.val_fraction, "subset.val", subset.seed)
        indices["train"] = np.setdiff1d(indices["train"], indices["val"])
        splits = {**splits, "val": splits["train"]}
    groups = _groups(splits["train"], indices["train"], classes)
    indices["train"] = firsts(class_orders(groups, "subset.train", subset.seed), subset.count)
    for split, found in indices.items():
        if not len(found):
            raise SslkitError(
                f"no image of {split} is left: {len(splits[split])} in the source, classes {chosen.tolist()}"
            )
    return Selection(
        [classes[i] for i in chosen],
        indices,
        {split: numbers[splits[split][found]] for split, found in indices.items()},
    )


def choose_classes(names: list[str], wanted: int | tuple[str, ...] | None, seed: int) -> np.ndarray:
    """Positions of the wanted classes, ascending; a number draws that many by the seed, nested in every larger number.

    Raises:
        UsageError: more classes than the source has, or an unknown name.
    """
    if wanted is None:
        return np.arange(len(names))
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(names):
            raise UsageError(f"--classes {wanted}: the source has {len(names)} classes")
        ranks = [generator(seed, "subset.classes", _key(name)).random() for name in names]
        return np.sort(np.argsort(ranks, kind="stable")[:wanted])
    position = {name: i for i, name in enumerate(names)}
    unknown = [name for name in wanted if name not in position]
    if unknown or not wanted:
        few = ", ".join(names[:3]) or "none: its images have no labels"
        raise UsageError(
            f"--classes: no class named {', '.join(unknown[:3]) or '(empty list)'}; the source has {few} ..."
        )
    return np.array(sorted({position[name] for name in wanted}))


def _groups(labels: np.ndarray, among: np.ndarray, classes: list[str]) -> list[tuple[int, np.ndarray]]:
    """(key, positions) of every class that occurs in ``among``; images without a label are one class.

    The key is made from the class's name, so that choosing other classes changes nothing within one.
    """
    return [
        (_key(UNLABELLED if label < 0 else classes[label]), among[positions])
        for label, positions in by_class(labels[among])
    ]


def _key(name: str) -> int:
    return zlib.crc32(name.encode(errors="surrogateescape"))


def describe(subset: Subset) -> dict[str, Any]:
    """The choice as JSON."""
    classes = list(subset.classes) if isinstance(subset.classes, tuple) else subset.classes
    return {
        "fraction": subset.fraction,
        "per_class": subset.per_class,
        "classes": classes,
        "val_fraction": subset.val_fraction,
        "seed": subset.seed,
    }
