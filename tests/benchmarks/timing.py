"""Contenders timed in turn, so that a busy moment of the machine meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call, per contender; each round calls each contender once.

    Each round starts with another contender: what ran just before leaves its mark on caches and memory. For work of one
    thread, ``time.process_time`` leaves out what other processes and the disk take.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in tqdm(range(-warm_up, rounds), desc="rounds", leave=False):
        first = number % len(contenders)
        for name, call in [*contenders.items()][first:] + [*contenders.items()][:first]:
            began = clock()
            call()
            if number >= 0:
                seconds[name].append(clock() - began)
    return seconds


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def ratio(seconds: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """How many times as long ``slow`` takes: the median over rounds of the ratio within a round."""
    return statistics.median(s / f for s, f in zip(seconds[slow], seconds[fast], strict=True))


def show(seconds: Mapping[str, Sequence[float]], items: int, unit: str) -> None:
    """A table: median seconds, spread, and items per second."""
    width = max(map(len, seconds))
    print(f"{'':{width}}  median s  min s  max s  {unit}/s")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:{width}}  {middle:8.3f}  {min(values):5.2f}  {max(values):5.2f}  {items / middle:.1f}")


def verdict(what: str, value: float, limit: float, at_least: bool = True) -> None:
    """One line: the measured number, the promise, and whether it is kept."""
    kept = value >= limit if at_least else value <= limit
    print(f"{what}: {value:.3g} ({'at least' if at_least else 'at most'} {limit:g}: {'kept' if kept else 'NOT KEPT'})")
