"""The difference of every run from a baseline, with an interval over test images or over seeds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError
from sslkit.statistics.signed import signed
from stages.contract.layout import Result
from stages.evaluations.comparison import Column
from stages.evaluations.members import Groups, Member
from stages.evaluations.protocol import Protocol
from stages.evaluations.results import TOP1, Evaluation
from stages.evaluations.seeds import seed_of
from stages.inputs.features.splits import read_predictions

if TYPE_CHECKING:
    import numpy as np

IMAGES, SEEDS = "test images", "seeds"
COVERS = {
    IMAGES: "Over test images: these two encoders, on other images like these (paired bootstrap, 10,000 resamples; "
    "p of McNemar's exact test). Runs with another seed may differ by more.",
    SEEDS: "Over seeds: other runs of the same two recipes, on the same test images (paired differences, Student's t). "
    "Seeds needed: pairs for 80 % power at 5 %, two-sided, if difference and spread are as observed.",
}
ROUNDING = 0.011  # points between an accuracy and that of its predictions: some stages round theirs


def differences(groups: Groups, baseline: str, columns: Sequence[Column], protocol: Protocol) -> list[Result]:
    """One row for every other run and every evaluation that it shares with the baseline, a name in ``groups``.

    Returns:
        ``run``, ``accuracy`` (a key), and either ``not_comparable`` with the reason, or ``difference`` in percentage
        points, with ``low``, ``high`` and ``over`` ("test images" or "seeds"), or ``no_interval`` with the reason.
    """
    return [
        {"run": name, "baseline": baseline, "accuracy": column.key, **found}
        for name, members in groups.items()
        if name != baseline
        for column in columns
        if (found := _difference(members, groups[baseline], column.key, protocol))
    ]


def _difference(ours: Sequence[Member], theirs: Sequence[Member], key: str, protocol: Protocol) -> Result | None:
    ours, theirs = ([member for member in group if key in member.evaluations] for group in (ours, theirs))
    if not ours or not theirs:
        return None
    pairs = _pairs(ours, theirs)
    evaluations = [(one.evaluations[key], other.evaluations[key]) for _, one, other in pairs]
    if not pairs:
        return {"not_comparable": f"no seed in common: {_seeds(ours)} and {_seeds(theirs)}"}
    if len(pairs) == 1 < max(len(ours), len(theirs)):
        why = f"only seed {pairs[0][0]} is in both, and one pair has no spread"
        return {"not_comparable": f"{why}: {_seeds(ours)}, {_seeds(theirs)}"}
    for one, other in evaluations:
        if why := protocol.why_not(one, other):
            return {"not_comparable": why}
    if len(pairs) > 1:
        return {**_over_seeds(evaluations), "seeds": [seed for seed, _, _ in pairs]}
    one, other = evaluations[0]
    if one.metric == TOP1:
        return _over_images(one, other)
    return {"difference": one.value - other.value, "no_interval": "only one pair of runs"}


def _pairs(ours: Sequence[Member], theirs: Sequence[Member]) -> list[tuple[int | None, Member, Member]]:
    """(seed, run, baseline's run): the only one of each, whatever their seeds, or those with equal seeds."""
    if len(ours) == len(theirs) == 1:
        return [(None, ours[0], theirs[0])]
    others = {seed_of(member.run.path): member for member in theirs}
    found = [(seed_of(member.run.path), member) for member in ours]
    return [(seed, member, others[seed]) for seed, member in found if seed is not None and seed in others]


def _seeds(members: Sequence[Member]) -> str:
    numbers = [seed_of(member.run.path) for member in members]
    return f"{members[0].name} has {', '.join('none' if n is None else str(n) for n in numbers)}"


def _over_seeds(pairs: Sequence[tuple[Evaluation, Evaluation]]) -> Result:
    from sslkit.statistics.paired import over_seeds

    found = over_seeds([one.value for one, _ in pairs], [other.value for _, other in pairs])
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "over": SEEDS,
        "pairs": found.pairs,
        "test": "paired t",
        "p": found.p,
        "seeds_needed": found.needed,
    }


def _over_images(one: Evaluation, other: Evaluation) -> Result:
    import numpy as np

    from sslkit.statistics.intervals import wilson
    from sslkit.statistics.paired import over_images

    try:
        rows, labels, ours = _right(one)
        other_rows, other_labels, theirs = _right(other)
    except SslkitError as error:
        return {"difference": one.value - other.value, "no_interval": str(error)}
    if not np.array_equal(rows, other_rows) or not np.array_equal(labels, other_labels):
        what = "labels" if np.array_equal(rows, other_rows) else f"test images ({len(rows)} and {len(other_rows)})"
        return {"not_comparable": f"predictions for different {what}"}
    found = over_images(ours, theirs)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "over": IMAGES,
        "images": found.images,
        "only_run_right": found.a_only,
        "only_baseline_right": found.b_only,
        "test": "McNemar, exact",
        "p": found.p,
        "run_interval": wilson(100 * float(ours.mean()), found.images),
        "baseline_interval": wilson(100 * float(theirs.mean()), found.images),
    }


def _right(evaluation: Evaluation) -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """Rows and labels of the test images, (N,) int64, and which were classified correctly, (N,) bool.

    Raises:
        SslkitError: there are no predictions, or they do not give the reported accuracy.
    """
    import numpy as np

    stage = evaluation.stage
    path = stage.predictions
    if not path.exists():
        raise SslkitError(f"{stage.home.path} kept no predictions: redo `sslkit {stage.declared.name}` with --force")
    rows, labels, predicted = read_predictions(path).values()
    if not len(labels):
        raise SslkitError(f"{path} does not hold one prediction for each image")
    accuracy = 100 * (predicted == labels).mean()
    if abs(accuracy - evaluation.value) > ROUNDING:  # a mean over draws is not that of one draw's predictions
        raise SslkitError(f"{path} gives top-1 {accuracy:.2f}, but the stage reports {evaluation.value:.2f}")
    order = np.argsort(rows, kind="stable")
    return rows[order], labels[order], (predicted == labels)[order]


def cells(found: Sequence[Result], columns: Sequence[Column]) -> list[list[object]]:
    """The rows of ``differences`` as cells, under a header."""
    titles = {column.key: column.title for column in columns}
    needed = any("seeds_needed" in entry for entry in found)
    header = ["run", "accuracy", "difference", "95 % interval", "p", *(["seeds needed"] if needed else []), "over"]
    return [[*header], *(_cells(entry, titles[entry["accuracy"]], needed) for entry in found)]


def _cells(entry: Result, title: str, needed: bool) -> list[object]:
    difference = signed(entry["difference"], 2) if "difference" in entry else "-"
    if "over" not in entry:
        why = entry.get("not_comparable")
        last = f"not comparable: {why}" if why else f"no interval: {entry['no_interval']}"
        return [entry["run"], title, difference, *["-"] * (3 if needed else 2), last]
    p = "< 0.001" if entry["p"] < 0.001 else f"{entry['p']:.3f}"
    more = [entry.get("seeds_needed") or "-"] if needed else []
    over = f"{entry['pairs']} pairs of seeds" if entry["over"] == SEEDS else f"{entry['images']} test images"
    return [entry["run"], title, difference, f"{signed(entry['low'], 2)} to {signed(entry['high'], 2)}", p, *more, over]


def covers(found: Sequence[Result]) -> list[str]:
    """What the intervals in the table cover."""
    words = [text for over, text in COVERS.items() if any(entry.get("over") == over for entry in found)]
    several = sum("p" in entry for entry in found) > 1
    return [*words, *(["No p is corrected for the number of rows."] if several else [])]
