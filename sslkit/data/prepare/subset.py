"""Which samples of a source are used: class-balanced, seeded and nested.

Each class has an order drawn from (seed, class name), and a subset takes its beginning. So 1 % lies inside 10 %, and
what is chosen of a class depends on no other class.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sslkit.data.class_balanced import at_least_one, by_class, class_orders, firsts, held_out
from sslkit.errors import SslkitError, UsageError, number_of, some_of
from sslkit.rng import generator

UNLABELLED = ""  # the name of the class that images without a label make
TENTH, FEWEST = 0.1, 10  # of train is held out as val where the source has none, unless it has fewer images than this


@dataclass(frozen=True)
class Subset:
    """What ``prepare`` is asked to take.

    Attributes:
        fraction: share of every class of train, in (0, 1].
        per_class: images of every class of train, instead of a fraction.
        classes: a number of classes, drawn by the seed, or their names; None for all.
        val_fraction: share of every class of train held out as val, where the source has no val; 0 holds nothing out,
            None a tenth.
        subset_val: whether ``fraction`` or ``per_class`` shrinks val too.
        seed: of every choice.
    """

    fraction: float | None = None
    per_class: int | None = None
    classes: int | tuple[str, ...] | None = None
    val_fraction: float | None = 0.0
    seed: int = 0
    subset_val: bool = False

    def __post_init__(self):
        if self.fraction is not None and self.per_class is not None:
            raise UsageError("--fraction and --per-class exclude each other: give one")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise UsageError(f"--fraction {self.fraction}: expected a number above 0 and up to 1 (0.2 is 20 %)")
        if self.per_class is not None and self.per_class < 1:
            raise UsageError(f"--per-class {self.per_class}: expected a number of images from 1")
        if self.val_fraction is not None and not 0 <= self.val_fraction < 1:
            raise UsageError(f"--val-fraction {self.val_fraction}: expected a number from 0 and below 1")
        if self.subset_val and self.fraction is None and self.per_class is None:
            raise UsageError("--subset-val goes with --fraction or --per-class")

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
        read_from: the source's split that each split is read from; a held-out val is part of the source's train.
        remarks: what a person should know about the choice.
    """

    classes: list[str]
    indices: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    read_from: dict[str, str]
    remarks: list[str]


def select(splits: dict[str, np.ndarray], classes: list[str], subset: Subset) -> Selection:
    """Choose samples of a source.

    Args:
        splits: labels (N,) of every split, -1 for none, as ``Source.splits`` gives them.
        classes: the source's class names.
        subset: what to take. Of val only the classes are chosen, unless asked for more: every subset is evaluated on
            the same val.

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
    indices, read_from, remarks = _with_val(splits, indices, classes, subset)
    labels = {split: splits[read_from[split]] for split in indices}
    for split in {"train", "val"} & indices.keys() if subset.subset_val else {"train"}:
        groups = _groups(labels[split], indices[split], classes)
        indices[split] = firsts(class_orders(groups, f"subset.{split}", subset.seed), subset.count)
    for split, found in indices.items():
        if not len(found):
            raise SslkitError(
                f"no image of {split} is left: {len(labels[split])} in the source, classes {chosen.tolist()}"
            )
    names = [classes[i] for i in chosen]
    taken = {split: numbers[labels[split][found]] for split, found in indices.items()}
    if "val" in taken:
        remarks += _about_val(names, taken, subset)
    return Selection(names, indices, taken, read_from, remarks)


def _with_val(
    splits: dict[str, np.ndarray], indices: dict[str, np.ndarray], classes: list[str], subset: Subset
) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """(positions, splits that they are read from, remarks) with a held-out val where that is to be.

    Raises:
        UsageError: a share is asked for, but the source has a val of its own that can be used.
    """
    share, remarks, own = subset.val_fraction, [], {split: split for split in splits}
    if "val" in splits:
        if not share:
            return indices, own, remarks
        if (splits["val"] >= 0).any() or not (splits["train"] >= 0).any():
            raise UsageError("--val-fraction is for sources without a labelled val; this one has its own")
        remarks.append(f"the source's val is not used: none of its {len(splits['val'])} images has a label")
    whole = indices["train"]
    if share is None and len(whole) < FEWEST:
        remarks.append(f"no val is held out, as there are only {len(whole)} images; --val-fraction 0.2 holds one out")
        return indices, own, remarks
    if share == 0:
        remarks.append("there is no val, which knn, linear and finetune require; --val-fraction 0.1 holds one out")
        return indices, own, remarks
    # Before train is cut down: val is the same for every subset of train.
    groups = _groups(splits["train"], whole, classes)
    labelled = [(key, found) for key, found in groups if splits["train"][found[0]] >= 0]
    held = held_out(labelled or groups, share or TENTH, "subset.val", subset.seed)
    if share is None and not len(held):
        remarks.append("no val is held out, as every class has a single image")
        return indices, own, remarks
    of = "every class, at least one" if labelled else "them, at least one"
    remarks.append(
        f"val is {len(held)} of the {len(whole)} images found for train, readable or not, held out by --seed: "
        f"{share or TENTH:.3g} of {of}; --val-fraction 0 keeps all for training"
    )
    return {"train": np.setdiff1d(whole, held), "val": held}, {"train": "train", "val": "train"}, remarks


def _about_val(classes: list[str], labels: dict[str, np.ndarray], subset: Subset) -> list[str]:
    """What is odd about a val, and whether it was cut down with train."""
    remarks = []
    train, val = (np.bincount(labels[split][labels[split] >= 0], minlength=len(classes)) for split in ("train", "val"))
    alien = np.flatnonzero((val > 0) & (train == 0))
    if train.any() and not val.any():
        remarks.append(
            "val has no labels although train has some: knn, linear and finetune require them; --val-fraction 0.1 "
            "holds out labelled images of train instead"
        )
    elif val.any() and not train.any():
        remarks.append("train has no labels although val has some: knn, linear and finetune require them in both")
    elif len(alien):
        count, some = number_of(len(alien), "class of val", "has"), some_of([classes[i] for i in alien], 5)
        remarks.append(f"{count} no image in train ({some}; {val[alien].sum()} images): no probe can get them right")
    cut = "--per-class" if subset.per_class is not None else "--fraction" if subset.fraction is not None else ""
    if cut and not subset.subset_val:
        remarks.append(
            f"val stays whole ({len(labels['val'])} images): {cut} cuts only train; to cut val the same way, add the "
            "switch --subset-val (it takes no number)"
        )
    return remarks


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
        **({"subset_val": True} if subset.subset_val else {}),
    }
