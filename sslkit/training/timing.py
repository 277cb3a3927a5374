"""How long an epoch takes, from some steps of real training that are thrown away."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sslkit.data.views import Batch
from sslkit.training.loop import Trainer

WARM, TIMED = 5, 20  # optimizer steps


@dataclass(frozen=True)
class Timing:
    """Seconds on this machine.

    Attributes:
        step: an optimizer step, waiting for data included.
        epoch: an epoch: its steps, the method's look at the dataset before it, and its share of the evaluations.
    """

    step: float
    epoch: float


def measure(trainer: Trainer, batches: Iterator[Batch]) -> Timing:
    """Train a few steps and look at the clock. The trainer is spoilt for anything else.

    Args:
        trainer: fresh, with paths that may be written to.
        batches: from step 0 on, at least WARM + TIMED steps of them.
    """
    # The end of a training is always evaluated; here that is timed by itself.
    evaluate, trainer.evaluate = trainer.evaluate, dict
    trainer.quiet, trainer.total = True, WARM
    trainer.train(batches)
    trainer.save = _nothing  # a checkpoint is no part of a step
    trainer.total = WARM + TIMED
    step = _seconds(lambda: trainer.train(batches)) / TIMED
    looking = _seconds(lambda: list(trainer.method.begin_epoch(trainer.at(0), trainer.features)))
    every = trainer.recipe.monitor.every_epochs
    evaluation = _seconds(evaluate) / every if every else 0.0
    return Timing(step, step * trainer.steps_per_epoch + looking + evaluation)


def _nothing() -> None: ...


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
