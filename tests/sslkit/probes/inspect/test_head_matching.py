"""Two encoders compared: the divergence, the matching, and grids that differ."""

from math import log2

import numpy as np
import pytest
import torch

from sslkit.probes.inspect.head_matching import HeadPair, divergence, match_heads


def maps(heads: int, rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.rand(heads, rows, columns, generator=torch.Generator().manual_seed(seed)) ** 4 / 50


def naive(p: list[float], q: list[float]) -> float:
    total = 0.0
    for a, b in zip(p, q, strict=True):
        for x in (a, b):
            if x > 0:
                total += x * log2(x / ((a + b) / 2)) / 2
    return total


def test_the_divergence_agrees_with_its_definition():
    p, q = (torch.rand(5, 9, dtype=torch.float64) for _ in range(2))
    p[:, :3], q[:, 2:5] = 0, 0
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    found = divergence(p, q)
    assert found.tolist() == pytest.approx([naive(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)])
    assert torch.equal(divergence(p, p), torch.zeros(5, dtype=torch.float64))
    apart = torch.eye(2, dtype=torch.float64)
    assert divergence(apart[0], apart[1]).item() == pytest.approx(1)  # bits: 1 is the most


def test_permuted_heads_are_matched():
    ours = [maps(5, 4, 6, seed) for seed in range(3)]
    order = [3, 0, 4, 1, 2]  # their head i is our head order[i]
    found = match_heads(ours, [each[order] for each in ours])
    assert [(pair.head, pair.other) for pair in found.pairs] == [(h + 1, order.index(h) + 1) for h in range(5)]
    assert all(pair.divergences.tolist() == [0, 0, 0] for pair in found.pairs)
    assert found.mean.divergences.max() < 1e-6
    assert found.any_two > 0.1
    assert found.resampled == ""


def test_matching_minimises_the_sum_and_is_not_greedy():
    # Head 1 is nearest to their 1, but so is head 2, which has no other choice.
    ours = torch.tensor([[[0.5, 0.5, 0.0]], [[0.8, 0.2, 0.0]]])
    theirs = torch.tensor([[[0.6, 0.4, 0.0]], [[0.0, 0.8, 0.2]]])
    found = match_heads([ours], [theirs])
    assert [(pair.head, pair.other) for pair in found.pairs] == [(1, 2), (2, 1)]


def test_numbers_of_a_pair_and_their_interval():
    ours, theirs = ([maps(2, 3, 3, seed + shift) for seed in range(4)] for shift in (0, 10))
    found = match_heads(ours, theirs)
    numbers = found.as_json()
    assert numbers["unit"] == "bits"
    assert numbers["resampled"] is None
    for pair, row in zip(found.pairs, numbers["heads"], strict=True):
        assert pair.head
        assert pair.other
        values = []
        for a, b in zip(ours, theirs, strict=True):
            p, q = a[pair.head - 1].flatten().double(), b[pair.other - 1].flatten().double()
            values.append(naive((p / p.sum()).tolist(), (q / q.sum()).tolist()))
        half = 3.182446 * np.std(values, ddof=1) / 2  # Student's t, 3 degrees of freedom
        assert row["divergence"] == pytest.approx(np.mean(values))
        assert row["high"] == pytest.approx(np.mean(values) + half)
        assert row["low"] == pytest.approx(max(np.mean(values) - half, 0))
    means = [a.mean(0).flatten().double() for a in ours], [b.mean(0).flatten().double() for b in theirs]
    apart = [naive((p / p.sum()).tolist(), (q / q.sum()).tolist()) for p, q in zip(*means, strict=True)]
    assert numbers["mean"]["divergence"] == pytest.approx(np.mean(apart))
    assert match_heads(ours[:1], theirs[:1]).as_json()["mean"]["low"] is None


def test_an_interval_stays_within_the_range_of_the_divergence():
    for values in ([0.99, 1.0, 0.8], [0.0, 0.01, 0.2]):
        numbers = HeadPair(1, 2, np.array(values)).as_json()
        assert 0 <= numbers["low"] < numbers["divergence"] == np.mean(values) < numbers["high"] <= 1
        assert (numbers["low"], numbers["high"])[values[0] > 0.5] == round(values[0])  # clipped to the range
    apart = torch.eye(4).view(4, 2, 2)
    assert match_heads([apart[:2]], [apart[2:]]).any_two == 1


def test_different_grids_are_averaged_to_the_coarser_one():
    coarse = [maps(3, 2, 3, seed) for seed in range(2)]
    fine = [each.repeat_interleave(2, 1).repeat_interleave(2, 2) for each in coarse]
    for found in (match_heads(coarse, fine), match_heads(fine, coarse)):
        assert [(pair.head, pair.other) for pair in found.pairs] == [(1, 1), (2, 2), (3, 3)]
        assert all(pair.divergences.max() < 1e-7 for pair in found.pairs)
        assert found.resampled.endswith("patches to 2 x 3")
        assert found.resampled.count(";") == 0


def test_a_surplus_head_has_no_partner():
    ours = [maps(3, 4, 4, 0)]
    found = match_heads(ours, [ours[0][[2, 0]]])
    assert [(pair.head, pair.other) for pair in found.pairs] == [(1, 2), (3, 1)]
    assert found.alone == 1
