"""Every masking strategy: the conformance all must meet, and what each promises by itself."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkit import registry, rng
from sslkit.errors import UsageError
from sslkit.masks.attention import AttentionMasking
from sslkit.masks.base import Crops, Masking, Masks, rank
from sslkit.masks.block import BlockMasking
from sslkit.masks.oracle import OracleMasking
from sslkit.masks.random import RandomMasking
from sslkit.methods.base import masked_on_object
from sslkit.recipe.validation import validated

NAMES = registry.names("sslkit.masks")
GRIDS = st.tuples(st.integers(2, 16), st.integers(2, 16))


def build(name: str, **keys) -> Masking:
    return validated(registry.load("sslkit.masks", name), {"strategy": name, **keys})


def draw(masking: Masking, grid=(8, 8), step=3, samples=range(6), views=2, seed=0) -> Masks:
    samples = np.array(samples)
    crops, patches = views * len(samples), grid[0] * grid[1]
    # Attention is a function of the crop, as a teacher's would be.
    rows = [rng.generator(9, "test", int(s), v).random(patches) for v in range(views) for s in samples]
    attention = torch.from_numpy(np.array(rows)).view(crops, patches)
    return masking.draw(seed, step, samples, views, grid, attention, objects=attention.float())


@pytest.mark.parametrize("name", NAMES)
@given(grid=GRIDS, step=st.integers(0, 1000), probability=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=25)
def test_counts_tell_the_truth_on_any_grid(name, grid, step, probability):
    masks = draw(build(name, probability=probability), grid, step)
    assert masks.mask.shape == (12, grid[0] * grid[1])
    assert masks.mask.dtype == torch.bool
    assert masks.mask.sum(1).tolist() == masks.counts.tolist()
    assert masks.counts.max() <= int(0.5 * grid[0] * grid[1])
    if probability == 0:
        assert masks.counts.sum() == 0
    picked = masks.mask.flatten().nonzero()[:, 0]
    assert torch.equal(masks.index, picked)
    padded, unit = masks.padded_index, max(1, masks.mask.numel() // 32)
    assert torch.equal(padded[: len(picked)], picked)
    assert (padded[len(picked) :] == 0).all()
    assert len(padded) % unit == 0
    assert len(padded) - len(picked) < unit
    crop = picked // masks.mask.shape[1]
    assert torch.allclose(masks.token_weights, 1 / torch.from_numpy(masks.counts)[crop].float())


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_is_a_function_of_seed_step_sample_and_view(name):
    masking = build(name, probability=1.0)
    whole = draw(masking, samples=range(6))
    part = draw(masking, samples=range(3, 6))
    mask = whole.mask.view(2, 6, -1)
    assert torch.equal(mask[:, 3:], part.mask.view(2, 3, -1))  # another process sees the same masks
    assert not torch.equal(whole.mask, draw(masking, step=4).mask)
    if not masking.needs_attention:  # a ranking by attention has no chance in it but its ratio
        assert not torch.equal(mask[0], mask[1])
        assert not torch.equal(whole.mask, draw(masking, seed=1).mask)


@pytest.mark.parametrize("name", NAMES)
def test_half_of_the_crops_are_masked_with_probability_one_half(name):
    masked = np.concatenate([draw(build(name), step=step, samples=range(50)).counts > 0 for step in range(10)])
    assert abs(masked.mean() - 0.5) < 5 * 0.5 / len(masked) ** 0.5


@pytest.mark.parametrize("ratio_per", ["crop", "step"])
def test_ratio_per_step_hides_equally_many_everywhere(ratio_per):
    counts = draw(build("random", ratio_per=ratio_per, probability=1.0), grid=(14, 14), samples=range(40)).counts
    assert (len(set(counts.tolist())) == 1) == (ratio_per == "step")
    assert int(0.1 * 196) <= counts.min()
    assert counts.max() <= int(0.5 * 196)


def test_fair_random_uses_the_coins_and_ratio_of_attmask():
    random = draw(build("random", ratio_per="step"))
    attention = draw(build("attention"))
    assert random.counts.tolist() == attention.counts.tolist()
    assert not torch.equal(random.mask, attention.mask)


def test_high_and_low_meet_the_authors_masks():
    with np.load(FIXTURES / "attmask.npz") as o:
        attention, high, low = (torch.from_numpy(o[key]) for key in ("attention", "high", "low"))
        count = int(float(o["ratio"]) * attention.shape[1])
    counts = np.full(len(attention), count)
    for order, expected in (("high", high), ("low", low)):
        chosen = AttentionMasking(order=order).choose(Crops(counts, (7, 7), [], rng.generator(0, ""), attention))
        assert torch.equal(chosen.mask, expected)


def test_hint_is_high_with_some_of_the_most_attended_shown():
    shown = 0
    for step in range(20):
        high = draw(build("attention", probability=1.0), grid=(14, 14), step=step)
        hint = draw(build("attention", order="hint", probability=1.0), grid=(14, 14), step=step)
        assert not (hint.mask & ~high.mask).any()
        revealed = high.mask & ~hint.mask
        attention = torch.from_numpy(
            np.array([rng.generator(9, "test", s, v).random(196) for v in range(2) for s in range(6)])
        )
        assert (rank(attention)[revealed] < int(0.1 * 196)).all()
        assert (revealed.sum(1) <= int(0.1 * 0.5 * 196)).all()
        shown += int(revealed.sum())
    assert shown > 0


def test_a_hint_of_nothing_on_a_small_grid_equals_high():
    high = draw(build("attention", probability=1.0), grid=(4, 4))
    hint = draw(build("attention", order="hint", probability=1.0), grid=(4, 4))
    assert torch.equal(high.mask, hint.mask)


@pytest.mark.parametrize(("power", "chance"), [(0.0, 1 / 4), (1.0, 4 / 7), (2.0, 16 / 19)])
def test_the_first_token_sampled_is_drawn_in_proportion_to_attention_to_a_power(power, chance):
    attention = torch.tensor([0.1, 0.4, 0.1, 0.1]).expand(2000, 4) / 0.7
    generators = [rng.generator(0, "s", i) for i in range(2000)]
    crops = Crops(np.ones(2000, dtype=np.int64), (2, 2), generators, rng.generator(0, ""), attention)
    hit = build("attention_sampled", power=power).choose(crops).mask[:, 1].float().mean()
    assert abs(hit - chance) < 4 * (chance * (1 - chance) / 2000) ** 0.5


def test_a_large_power_samples_what_high_hides():
    sampled = draw(build("attention_sampled", power=1e6, probability=1.0))
    assert torch.equal(sampled.mask, draw(build("attention", probability=1.0)).mask)


@given(grid=st.tuples(st.integers(4, 16), st.integers(4, 16)), count=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_blocks_never_hide_more_than_asked(grid, count, seed):
    count = min(count, grid[0] * grid[1])
    masks = BlockMasking().choose(Crops(np.array([count]), grid, [rng.generator(seed, "b")], rng.generator(0, "")))
    assert 0 < masks.mask.sum() <= count


def test_blocks_hang_together_more_than_random_tokens():
    def neighbours(name):
        masks = draw(build(name, ratio=[0.3, 0.3], probability=1.0), grid=(14, 14), samples=range(30))
        m = masks.mask.view(-1, 14, 14)
        return ((m[:, 1:] & m[:, :-1]).sum() / m.sum()).item()

    assert neighbours("block") > neighbours("random") + 0.2


def test_random_masks_favour_no_place():
    masks = draw(RandomMasking(probability=1.0, ratio=(0.5, 0.5)), grid=(4, 4), samples=range(500))
    share = masks.mask.float().mean(0)
    assert (share - 0.5).abs().max() < 5 * 0.5 / 1000**0.5


def test_attention_without_a_teacher_is_refused():
    with pytest.raises(UsageError, match="teacher"):
        build("attention").draw(0, 0, np.arange(2), 2, (4, 4), None)


@pytest.mark.parametrize("ratio", [[0.5, 0.1], [-0.1, 0.5], [0.1, 1.5]])
def test_ratios_out_of_order_are_refused(ratio):
    with pytest.raises(UsageError, match="ratio"):
        build("random", ratio=ratio)


def test_the_oracle_hides_the_object_first_and_then_the_background_at_random():
    objects = torch.zeros(2, 16)
    objects[0, [3, 7]], objects[0, 5], objects[1] = 1.0, 0.5, 0.0
    crops = Crops(np.array([3, 4]), (4, 4), [rng.generator(0, "a"), rng.generator(0, "b")], rng.generator(0, ""))
    masks = OracleMasking().choose(dataclasses.replace(crops, objects=objects))
    assert masks.mask[0].nonzero()[:, 0].tolist() == [3, 5, 7]
    assert masks.mask[1].nonzero()[:, 0].tolist() != [0, 1, 2, 3]
    assert masks.mask[1].sum() == 4


def test_masks_are_told_where_they_fall():
    mask = torch.tensor([[True, True, False, False], [False, False, False, False]])
    objects = torch.tensor([[0.5, 0.4, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = masked_on_object(Masks(mask, np.array([2, 0])), objects)
    assert found["masked_on_object"] == 0.5
    assert found["tokens_on_object"] == 6 / 8
    assert masked_on_object(None, objects) == {} == masked_on_object(Masks(mask, np.array([2, 0])), None)
