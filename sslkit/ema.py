"""The teacher as an exponential moving average of the student (arXiv:1703.01780)."""

import torch
from torch import Tensor, _foreach_lerp_, nn  # pyright: ignore[reportPrivateImportUsage]

from sslkit.schedules import Moment, Momentum, cosine, momentum_over


class MovingAverage:
    """Makes a teacher follow a student.

    Torch walks the whole tree of modules whenever it is asked for parameters, which takes as long as averaging those of
    a small ViT: here it is walked once.

    Args:
        teacher: with the same parameters and buffers as the student, in the same order.
        student: its submodules, like the teacher's, stay the ones that it has now.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module):
        self.teacher, self.student = list(teacher.modules()), list(student.modules())

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Teacher <- momentum x teacher + (1 - momentum) x student, in place.

        Parameters are averaged. Buffers (BatchNorm's running statistics) are copied: they are averages already.
        """
        if old := _held(self.teacher, "_parameters"):
            _foreach_lerp_(old, _held(self.student, "_parameters"), 1 - momentum)
        for target, source in zip(_held(self.teacher, "_buffers"), _held(self.student, "_buffers"), strict=True):
            target.copy_(source)

    def follow(self, momentum: tuple[Momentum, Momentum], at: Moment) -> None:
        """``update`` after a step; the momentum goes from the first value to the second along a cosine over the run."""
        start, end = (momentum_over(value, at.total) for value in momentum)
        self.update(cosine(start, end, at.step / at.total))


def _held(modules: list[nn.Module], what: str) -> list[Tensor]:
    """Parameters or buffers in torch's order, those that modules share once."""
    return list(dict.fromkeys(t for module in modules for t in getattr(module, what).values() if t is not None))
