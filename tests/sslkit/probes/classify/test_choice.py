"""The remark on a learning rate at the edge of those that were tried."""

import pytest

from sslkit.probes.classify.choice import chosen_by, edge_remark


def sweep(**accuracies):
    """Rows of a sweep: percents by weight decay for each rate, such as ``r1=[50, 60]`` for 1."""
    return [
        {"lr": float(rate[1:].replace("_", ".")), "weight_decay": decay, "held_out_top1": percent}
        for rate, percents in accuracies.items()
        for decay, percent in enumerate(percents)
    ]


@pytest.mark.parametrize(
    ("lr", "rows", "says"),
    [
        (0.3, sweep(r0_1=[10.0, 20.0], r0_3=[30.0, 25.0]), "--lr 0.1 --lr 0.3 --lr 0.9 --lr 3 --force"),
        (0.3, sweep(r0_1=[10.0, 20.0], r0_3=[30.0, 25.0]), "lr 0.3 is the largest that was tried, and better on "),
        (0.3, sweep(r0_1=[10.0, 20.0], r0_3=[30.0, 25.0]), "than 0.1 (30.0 against 20.0 %): a larger one"),
        (0.1, sweep(r0_1=[40.0], r0_4=[30.0]), "lr 0.1 is the smallest that was tried"),
        (0.1, sweep(r0_1=[40.0], r0_4=[30.0]), "a smaller one may be better still; try --lr 0.006 --lr 0.03 --lr 0.1"),
        (0.3, sweep(r0_3=[30.0, 25.0], r0_1=[10.0, 20.0]), "largest"),  # rates in any order
    ],
)
def test_an_edge_is_said_with_what_to_try(lr, rows, says):
    assert says in edge_remark(lr, rows)


@pytest.mark.parametrize(
    ("lr", "rows"),
    [
        (0.3, sweep(r0_1=[10.0, 30.0], r0_3=[30.0, 25.0])),  # a tie, with another weight decay
        (0.1, sweep(r0_01=[10.0], r0_1=[30.0], r0_3=[20.0])),  # inside
        (0.3, sweep(r0_3=[30.0, 25.0])),  # the only rate
        (0.03, sweep(r0_03=[None])),  # nothing was held out
        (0.03, []),
    ],
)
def test_nothing_is_said_inside_or_in_a_tie(lr, rows):
    assert edge_remark(lr, rows) == ""


def test_results_of_earlier_versions_do_not_say_how_many():
    assert chosen_by({"held_out_top1": 15.0}) == "15.00 % on held-out train"
    assert chosen_by({"held_out_top1": 15.0, "held_out_images": 1}) == "15.00 % of 1 held-out train image"
