"""How fast the loop is, and what it waits for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Images per second, the share of time spent waiting for data, and when the last checkpoint was."""

    def __init__(self, images: int):
        self.images = images  # of one micro-batch, over all processes
        self.kept = time.monotonic()
        self.restart()

    def restart(self) -> None:
        """Begin a new interval."""
        self.began, self.waited, self.batches = time.monotonic(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that counts as waiting for data."""
        entered = time.monotonic()
        yield
        self.waited += time.monotonic() - entered
        self.batches += 1

    def checkpoint_due(self, minutes: float) -> bool:
        """Whether this many minutes have passed since it last returned True."""
        due = time.monotonic() - self.kept > 60 * minutes
        if due:
            self.kept = time.monotonic()
        return due

    def read(self) -> dict[str, float]:
        """Images per second and the share of waiting since the last reading."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        values = {
            "images_per_second": round(self.batches * self.images / seconds, 2),
            "data_wait": round(self.waited / seconds, 4),
        }
        self.restart()
        return values
