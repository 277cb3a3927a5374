import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkit.data.prepare.subset import Subset, choose_classes, select
from sslkit.errors import SslkitError, UsageError

SEEDS = st.integers(0, 1000)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)
FRACTIONS = st.floats(0.001, 1.0)


def labels_of(sizes, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def names_of(sizes):
    return [f"class {i}" for i in range(len(sizes))]


def chosen(labels, names, subset, split="train"):
    return set(select({"train": labels}, names, subset).indices[split].tolist())


@settings(max_examples=60)
@given(SIZES, SEEDS, FRACTIONS, FRACTIONS)
def test_a_smaller_fraction_lies_inside_a_larger_one(sizes, seed, one, other):
    labels, small, large = labels_of(sizes), *sorted([one, other])
    inner = chosen(labels, names_of(sizes), Subset(fraction=small, seed=seed))
    assert inner <= chosen(labels, names_of(sizes), Subset(fraction=large, seed=seed))


@settings(max_examples=60)
@given(SIZES, SEEDS, FRACTIONS)
def test_every_class_gives_its_share(sizes, seed, fraction):
    labels = labels_of(sizes)
    taken = labels[sorted(chosen(labels, names_of(sizes), Subset(fraction=fraction, seed=seed)))]
    assert np.bincount(taken, minlength=len(sizes)).tolist() == [max(1, round(fraction * n)) for n in sizes]


@settings(max_examples=60)
@given(SIZES, SEEDS, st.integers(1, 50))
def test_per_class_counts(sizes, seed, count):
    labels = labels_of(sizes)
    taken = labels[sorted(chosen(labels, names_of(sizes), Subset(per_class=count, seed=seed)))]
    assert np.bincount(taken, minlength=len(sizes)).tolist() == [min(count, n) for n in sizes]


@settings(max_examples=60)
@given(SIZES, SEEDS, FRACTIONS, st.integers(0, 6))
def test_a_further_class_changes_no_other_classes_choice(sizes, seed, fraction, place):
    subset = Subset(fraction=fraction, seed=seed)
    before = select({"train": np.repeat(np.arange(len(sizes)), sizes)}, names_of(sizes), subset)
    place = min(place, len(sizes))
    more, names = [*sizes[:place], 7, *sizes[place:]], names_of(sizes)
    names.insert(place, "another")
    after = select({"train": np.repeat(np.arange(len(more)), more)}, names, subset)

    def within_class(selection, sizes, names):
        starts = np.cumsum([0, *sizes])
        positions = selection.indices["train"]
        return {
            name: (positions[(positions >= a) & (positions < b)] - a).tolist()
            for name, a, b in zip(names, starts, starts[1:], strict=False)
        }

    expected, found = within_class(before, sizes, names_of(sizes)), within_class(after, more, names)
    assert {name: found[name] for name in expected} == expected


@settings(max_examples=60)
@given(SIZES, SEEDS, FRACTIONS, st.floats(0.01, 0.9))
def test_held_out_val_never_meets_train_and_stays_the_same(sizes, seed, fraction, val_fraction):
    labels, names = labels_of(sizes), names_of(sizes)
    if max(sizes) == 1:
        return
    part = select({"train": labels}, names, Subset(fraction=fraction, val_fraction=val_fraction, seed=seed))
    whole = select({"train": labels}, names, Subset(val_fraction=val_fraction, seed=seed))
    assert not set(whole.indices["train"]) & set(whole.indices["val"])
    assert len(whole.indices["train"]) + len(whole.indices["val"]) == len(labels)
    assert part.indices["val"].tolist() == whole.indices["val"].tolist()
    assert set(part.indices["train"]) <= set(whole.indices["train"])
    held = np.bincount(whole.labels["val"], minlength=len(sizes)).tolist()
    assert held == [min(n - 1, max(1, round(val_fraction * n))) for n in sizes]


def test_seeds_choose_differently_and_the_same_seed_the_same():
    labels, names = labels_of([100, 100]), names_of([1, 1])
    first, again, other = (chosen(labels, names, Subset(fraction=0.3, seed=s)) for s in (0, 0, 1))
    assert first == again != other


def test_the_choice_does_not_follow_the_order_of_the_files():
    labels = np.zeros(1000, np.int64)
    taken = np.array(sorted(chosen(labels, ["a"], Subset(fraction=0.2))))
    assert 450 < taken.mean() < 550


def test_classes_by_name_renumber_the_labels_and_filter_val():
    splits = {"train": np.array([0, 1, 2, 2, -1]), "val": np.array([2, 1, 0])}
    selection = select(splits, ["a", "b", "c"], Subset(classes=("c", "a")))
    assert selection.classes == ["a", "c"]
    assert selection.indices["train"].tolist() == [0, 2, 3] and selection.labels["train"].tolist() == [0, 1, 1]
    assert selection.indices["val"].tolist() == [0, 2] and selection.labels["val"].tolist() == [1, 0]


def test_val_is_not_thinned_by_a_fraction():
    splits = {"train": np.zeros(50, np.int64), "val": np.zeros(20, np.int64)}
    assert len(select(splits, ["a"], Subset(fraction=0.1)).indices["val"]) == 20


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
def test_a_number_of_classes_is_nested(seed, one, other):
    names = [f"n{i:04d}" for i in range(20)]
    small, large = (set(choose_classes(names, n, seed).tolist()) for n in sorted([one, other]))
    assert small <= large and len(small) == min(one, other)


def test_unlabelled_images_are_one_group():
    selection = select({"train": np.full(40, -1)}, [], Subset(fraction=0.25, val_fraction=0.5))
    assert len(selection.indices["train"]) == 5 and len(selection.indices["val"]) == 20
    assert set(selection.labels["train"].tolist()) == {-1}


@pytest.mark.parametrize("wrong", [
    {"fraction": 0.0}, {"fraction": 1.5}, {"fraction": 0.1, "per_class": 3}, {"per_class": 0}, {"val_fraction": 1.0},
    {"classes": 4}, {"classes": 0}, {"classes": ("d",)}, {"classes": ()}, {"val_fraction": 0.1},
])  # fmt: skip
def test_contradictions_are_usage_errors(wrong):
    with pytest.raises(UsageError) as caught:
        select({"train": np.arange(3), "val": np.arange(3)}, ["a", "b", "c"], Subset(**wrong))
    assert "\n" not in str(caught.value)


def test_a_source_without_train_is_an_error():
    with pytest.raises(SslkitError, match="no train split, only val"):
        select({"val": np.arange(3)}, ["a", "b", "c"], Subset())
