"""Signals that wait: a step, or the start of a process, is not torn in two by Ctrl-C."""

import signal
import threading
from types import FrameType
from typing import TypeVar

S = TypeVar("S", bound="Signals")


class Signals:
    """Remembers SIGINT and SIGTERM instead of dying, so that what runs can end and be kept.

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
    """Holds them back until its end, and lets the first one through then."""

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.received:
            signal.raise_signal(self.received[0])
