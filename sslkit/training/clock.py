"""How fast the loop is, and what it waits for."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = 20.0  # seconds of training until the first checkpoint: a run that dies early need not begin anew
ENOUGH = 10.0  # seconds of computing that tell how many cores a process gets
CROWDED = 0.6  # of its threads; its own loader takes less from them


class Clock:
    """Images per second, the share of time spent waiting for data, and when the last checkpoint was."""

    def __init__(self, images: int):
        self.images = images  # of one micro-batch, over all processes
        self.kept, self.first = time.monotonic(), FIRST
        self.computed, self.used = 0.0, 0.0  # seconds by the clock without waiting, and of the CPU
        self.restart()

    def restart(self) -> None:
        """Begin a new interval."""
        self.began, self.waited, self.batches = time.monotonic(), 0.0, 0
        self.cpu = time.process_time()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that counts as waiting for data."""
        entered = time.monotonic()
        yield
        self.waited += time.monotonic() - entered
        self.batches += 1

    def checkpoint_due(self, seconds: float) -> bool:
        """Whether this many seconds have passed since it last returned True; the first time ``FIRST`` are enough."""
        due = time.monotonic() - self.kept > min(seconds, self.first)
        if due:
            self.kept, self.first = time.monotonic(), math.inf
        return due

    def read(self) -> dict[str, float]:
        """Images per second and the share of waiting since the last reading."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        values = {
            "images_per_second": round(self.batches * self.images / seconds, 2),
            "data_wait": round(self.waited / seconds, 4),
        }
        self.computed += seconds - self.waited
        self.used += time.process_time() - self.cpu
        self.restart()
        return values

    def crowded(self, threads: int) -> str:
        """Once ``ENOUGH`` is known: a remark if other processes use the cores that these threads compute on, else "".

        Threads that share their work wait for the one that got no core, so two runs with all threads each take more
        than twice as long as with half of them each.
        """
        if self.computed < ENOUGH:
            return ""
        cores, self.computed = self.used / self.computed, -math.inf  # never again
        if threads == 1 or cores > CROWDED * threads:
            return ""
        return (
            f"this run computes with {threads} threads, but other processes leave it {cores:.1f} CPU cores: stop it "
            f"and rerun the same command with OMP_NUM_THREADS={max(1, round(cores))}, which may be much faster"
        )
