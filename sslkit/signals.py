"""Signals that wait for the end of a step, or of the start of a process, so that Ctrl-C interrupts neither."""

import signal
import threading
from types import FrameType
from typing import TypeVar

S = TypeVar("S", bound="Signals")


class Signals:
    """Records SIGINT and SIGTERM instead of letting them end the process, so that it can finish and save its work.

    Attributes:
        received: their numbers, in order.
    """

    def __enter__(self: S) -> S:
        self.received: list[int] = []
        in_main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
        numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class HeldSignals(Signals):
    """Holds SIGINT and SIGTERM back until the block ends, and then lets the first one through."""

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.received:
            signal.raise_signal(self.received[0])
