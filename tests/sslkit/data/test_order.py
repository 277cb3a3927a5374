"""The order of the batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkit.data.order import Order
from sslkit.errors import UsageError


@given(
    samples=st.integers(16, 200),
    world=st.sampled_from([1, 2, 4]),
    accumulate=st.sampled_from([1, 2]),
    seed=st.integers(0, 9),
)
@settings(max_examples=40)
def test_the_ranks_together_see_what_one_process_sees(samples, world, accumulate, seed):
    whole = [batch for _, batch in Order(samples, 16, seed=seed).micro_batches(0, 2 * (samples // 16))]
    parts = [
        list(Order(samples, 16, accumulate, rank, world, seed).micro_batches(0, 2 * (samples // 16)))
        for rank in range(world)
    ]
    for step, batch in enumerate(whole):
        mine = [parts[r][step * accumulate + a][1] for r in range(world) for a in range(accumulate)]
        assert np.array_equal(np.concatenate(mine), batch)
    epoch = np.concatenate(whole[: samples // 16])
    assert len(set(epoch.tolist())) == len(epoch)


def test_the_order_starts_anywhere_and_changes_each_epoch():
    order = Order(64, 16)
    every = list(order.micro_batches(0, 12))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(order.micro_batches(7, 12), every[7:], strict=True))
    assert not np.array_equal(every[0][1], every[4][1]) and [epoch for epoch, _ in every] == [s // 4 for s in range(12)]


@pytest.mark.parametrize(("batch", "world", "message"), [(128, 1, "exceeds the 64"), (15, 2, "does not divide")])
def test_batches_that_cannot_be_are_refused(batch, world, message):
    with pytest.raises(UsageError, match=message):
        Order(64, batch, world=world)
