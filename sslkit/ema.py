"""The teacher as an exponential moving average of the student (arXiv:1703.01780)."""

import torch
from torch import Tensor, _foreach_lerp_, nn  # pyright: ignore[reportPrivateImportUsage]

from sslkit.schedules import Moment, cosine


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Teacher <- momentum x teacher + (1 - momentum) x student, in place; both have the same parameters in one order.

    Parameters are averaged. Buffers (BatchNorm's running statistics) are copied: they are averages already.
    """
    old: list[Tensor] = list(teacher.parameters())
    new: list[Tensor] = list(student.parameters())
    if old:
        _foreach_lerp_(old, new, 1 - momentum)
    for target, source in zip(teacher.buffers(), student.buffers(), strict=True):
        target.copy_(source)


def follow(teacher: nn.Module, student: nn.Module, momentum: tuple[float, float], at: Moment) -> None:
    """``update`` after a step; the momentum goes from the first value to the second along a cosine over the run."""
    update(teacher, student, cosine(*momentum, at.step / at.total))
