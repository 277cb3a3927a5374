"""What the loop's clock reads, with a clock of the test's own."""

import time

import pytest

from sslkit.training.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """Seconds by the wall clock and of the CPU, which the test sets."""
    seconds = {"wall": 100.0, "cpu": 7.0}
    monkeypatch.setattr(time, "monotonic", lambda: seconds["wall"])
    monkeypatch.setattr(time, "process_time", lambda: seconds["cpu"])
    return seconds


def interval(clock, now, wall, cpu, waited=0.0):
    with clock.waiting():
        now["wall"] += waited
    now["wall"] += wall - waited
    now["cpu"] += cpu
    return clock.read()


def test_images_per_second_and_the_share_of_waiting(now):
    clock = Clock(images=64)
    assert interval(clock, now, wall=4.0, cpu=8.0, waited=1.0) == {"images_per_second": 16.0, "data_wait": 0.25}


@pytest.mark.parametrize(
    ("threads", "cpu", "waited", "crowded"),
    [
        (2, 12.0, 0.0, True),  # 1 of 2 cores
        (2, 20.0, 0.0, False),  # 1.7 of 2: the loader has a part
        (2, 15.0, 4.0, False),  # waiting for data needs no core
        (1, 6.0, 0.0, False),  # fewer threads would not help
        (64, 24.0, 0.0, True),  # a container that may use two cores of 64
    ],
)
def test_a_run_whose_cores_others_use_says_so_once(now, threads, cpu, waited, crowded):
    clock = Clock(images=64)
    assert clock.crowded(threads) == ""  # nothing is known yet
    interval(clock, now, wall=12.0, cpu=cpu, waited=waited)
    remark = clock.crowded(threads)
    assert bool(remark) == crowded
    if crowded:
        assert f"OMP_NUM_THREADS={1 if threads == 2 else 2}" in remark
        interval(clock, now, wall=12.0, cpu=cpu)
        assert clock.crowded(threads) == ""


def test_a_few_seconds_tell_nothing(now):
    clock = Clock(images=64)
    interval(clock, now, wall=5.0, cpu=1.0)
    assert clock.crowded(2) == ""
