"""Signals that wait for the end of a step, or of the start of a process, so that Ctrl-C interrupts neither.

Ctrl-C is SIGINT. Batch systems send SIGTERM when they end a job, and SLURM sends SIGUSR1, or what ``--signal`` names,
some time before that.
"""

import signal
import threading
from types import FrameType
from typing import TypeVar

S = TypeVar("S", bound="Signals")
LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # each of them means: keep what is done and leave


class Signals:
    """Records the signals to leave instead of letting them end the process, so that it can finish and save its work.

    Attributes:
        received: their numbers, in order.
    """

    def __enter__(self: S) -> S:
        self.received: list[int] = []
        in_main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
        numbers = LEAVE if in_main else ()
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class HeldSignals(Signals):
    """Holds the signals to leave back until the block ends, and then lets the first one through."""

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.received:
            signal.raise_signal(self.received[0])
