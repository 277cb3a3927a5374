"""Values that change over a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslkit.schedules import Moment, cosine, in_epochs, linear, warmup_cosine


def test_durations_are_epochs_or_shares():
    assert in_epochs("10%", 200) == 20
    assert in_epochs(3, 200) == 3


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_schedules_stay_between_their_ends(step, start, end):
    at = Moment(step, steps_per_epoch=10, epochs=100)
    low, high = min(start, end) - 1e-9, max(start, end) + 1e-9
    assert low <= cosine(start, end, step / 1000) <= high
    assert low <= linear(start, end, "30%", at) <= high
    assert 0 <= warmup_cosine(1.0, 0.0, "10%", at) <= 1


def test_warmup_rises_to_the_peak_and_the_cosine_ends_at_the_end():
    lr = [warmup_cosine(2.0, 0.5, 10, Moment(step, 5, 100)) for step in range(501)]
    assert lr[0] == 0
    assert lr[25] == pytest.approx(1.0)
    assert lr[50] == 2.0
    assert lr[500] == pytest.approx(0.5)
    assert lr[:51] == sorted(lr[:51])
    assert lr[50:] == sorted(lr[50:], reverse=True)
    assert lr[275] == pytest.approx(1.25)  # half way down the cosine


def test_a_run_of_few_steps_comes_to_the_peak():
    for warmup in (10, "100%", "10%", 1, 0):
        for steps in (1, 2, 3, 9, 30):
            lr = [warmup_cosine(2.0, 0.0, warmup, Moment(step, steps, 1)) for step in range(steps)]
            assert max(lr) == pytest.approx(2.0)
            assert sum(rate == 0 for rate in lr) <= (warmup != 0)
    assert [warmup_cosine(2.0, 0.0, "10%", Moment(step, 1, 1)) for step in range(1)] == [2.0]
