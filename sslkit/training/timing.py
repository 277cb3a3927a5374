"""How long an epoch takes, from some steps of real training that are thrown away."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sslkit.data.batch import Batch
from sslkit.training.loop import Trainer

WARM, TIMED = 5, 20  # optimizer steps


@dataclass(frozen=True)
class Timing:
    """Seconds on this machine."""

    step: float  # an optimizer step, waiting for data included
    epoch: float  # its steps, and what comes between them
    between: float  # of an epoch: what the method does before it, and its share of the evaluations


def measure(trainer: Trainer, batches: Iterator[Batch], evaluate: Callable[[], object]) -> Timing:
    """Time a few steps of a new trainer, which is of no further use, and an evaluation.

    Args:
        trainer: with paths that may be written to, and an ``evaluate`` that does nothing.
        batches: from step 0 on, at least WARM + TIMED steps of them.
        evaluate: an evaluation, timed by itself.
    """
    trainer.advance(batches, WARM)
    step = _seconds(lambda: trainer.advance(batches, WARM + TIMED)) / TIMED
    before_epoch = _seconds(lambda: list(trainer.method.begin_epoch(trainer.at(0), trainer.features)))
    every = trainer.recipe.monitor.every_epochs
    evaluation = _seconds(evaluate) / every if every else 0.0
    between = before_epoch + evaluation
    return Timing(step, step * trainer.steps_per_epoch + between, between)


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
