"""Which images meet in which batch: a pure function of (seed, epoch, step).

The global batches do not depend on the number of processes; each takes its share. So a resumed run starts at any
step by arithmetic, and two processes see what one would.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sslkit import rng
from sslkit.errors import UsageError


@dataclass(frozen=True)
class Order:
    """The order of a run.

    Attributes:
        samples: images in the dataset.
        batch_size: images of a global batch, one optimizer step.
        accumulate: micro-batches that each process cuts its share into.
        rank: this process.
        world: number of processes.
        seed: the run's.
    """

    samples: int
    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        parts = self.accumulate * self.world
        if self.batch_size % parts:
            raise UsageError(
                f"batch size {self.batch_size} does not divide among {self.world} processes x {self.accumulate} "
                f"micro-batches: try {max(self.batch_size // parts, 1) * parts}"
            )
        if self.samples < self.batch_size:
            raise UsageError(
                f"batch size {self.batch_size} exceeds the {self.samples} training images: "
                f"try --batch-size {_power_of_two(self.samples // parts) * parts}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch; the rest of the images waits for the next epoch's order."""
        return self.samples // self.batch_size

    def epoch(self, epoch: int) -> np.ndarray:
        """(samples,) int64, a permutation."""
        return rng.generator(self.seed, "order", epoch).permutation(self.samples)

    def micro_batches(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, sample indices) of this process's micro-batches, for optimizer steps start to stop - 1."""
        known, order = -1, np.empty(0, dtype=np.int64)
        size = self.batch_size // (self.accumulate * self.world)
        for step in range(start, stop):
            epoch, index = divmod(step, self.steps_per_epoch)
            if epoch != known:
                known, order = epoch, self.epoch(epoch)
            batch = order[index * self.batch_size :][: self.batch_size]
            mine = batch.reshape(self.world, self.accumulate, size)[self.rank]
            for micro in mine:
                yield epoch, micro


def _power_of_two(most: int) -> int:
    """The largest power of two up to a number; 1 for less."""
    return 1 << max(most.bit_length() - 1, 0)
