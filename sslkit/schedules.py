"""Values that change over a run, as pure functions of the moment.

A duration in a recipe is a number of epochs or a share of the run: ``10`` or ``"10%"``. A momentum is a number, or the
share of the run over which it averages: ``0.99`` or ``"5%"``.
"""

import math
from dataclasses import dataclass

from sslkit.errors import UsageError

Duration = float | str
Momentum = float | str


@dataclass(frozen=True)
class Moment:
    """The progress of a run, before an optimizer step."""

    step: int  # optimizer steps done, from 0
    steps_per_epoch: int
    epochs: float  # in the whole run

    @property
    def epoch(self) -> float:
        """Epochs done, fractional."""
        return self.step / self.steps_per_epoch

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run."""
        return round(self.epochs * self.steps_per_epoch)

    def reached(self, duration: Duration) -> float:
        """The share in [0, 1] of a duration that has passed; a duration of 0 has always passed."""
        length = in_epochs(duration, self.epochs)
        return 1.0 if length == 0 else min(self.epoch / length, 1.0)


def in_epochs(duration: Duration, epochs: float) -> float:
    """A duration in epochs.

    Raises:
        UsageError: neither a number nor a percentage, or below 0.

    >>> in_epochs("10%", 50), in_epochs(3, 50)
    (5.0, 3.0)
    """
    number, is_share = _number(duration)
    length = number / 100 * epochs if is_share else number
    if not 0 <= length < math.inf:
        raise UsageError(f"'{duration}' is not a duration: write epochs (10) or a share of the run ('10%')")
    return length


def momentum_over(value: Momentum, steps: int) -> float:
    """The momentum of an exponential moving average: a number as it is, or 1 - 1/n for a share of the run of n steps.

    Raises:
        UsageError: not a number in [0, 1], nor a percentage.

    >>> momentum_over(0.99, 1000), momentum_over("5%", 1000)
    (0.99, 0.98)
    """
    number, is_share = _number(value)
    if is_share and 0 <= number <= 100:
        return 1 - 1 / max(number / 100 * steps, 1)
    if not 0 <= number <= 1:
        raise UsageError(
            f"'{value}' is not a momentum: write a number in [0, 1], or the share of the run to average over ('5%')"
        )
    return number


def _number(value: float | str) -> tuple[float, bool]:
    """The number in a value, NaN if it is none, and whether it is a percentage."""
    text = str(value)
    try:
        return float(text.removesuffix("%")), text.endswith("%")
    except ValueError:
        return math.nan, text.endswith("%")


def cosine(start: float, end: float, share: float) -> float:
    """From ``start`` to ``end`` along half a cosine (arXiv:1608.03983) as ``share`` goes from 0 to 1.

    >>> cosine(1.0, 0.0, 0.5)
    0.5
    """
    return end + (start - end) * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2


def warmup_cosine(peak: float, end: float, warmup: Duration, at: Moment) -> float:
    """Linear from 0 to ``peak`` over the warm-up, then a cosine to ``end`` over what is left of the run.

    Even a short run reaches the peak, at its last step at the latest. A warm-up shorter than one step is left out: that
    step would have rate 0.

    >>> warmup_cosine(2.0, 0.0, "10%", Moment(step=0, steps_per_epoch=1, epochs=1))
    2.0
    """
    length = min(in_epochs(warmup, at.epochs), (at.total - 1) / at.steps_per_epoch)
    length = 0.0 if length * at.steps_per_epoch < 1 else length
    if at.epoch < length:
        return peak * at.epoch / length
    return cosine(peak, end, (at.epoch - length) / max(at.epochs - length, 1e-12))


def linear(start: float, end: float, duration: Duration, at: Moment) -> float:
    """Linear from ``start`` to ``end`` over a duration, then flat."""
    return start + (end - start) * at.reached(duration)
