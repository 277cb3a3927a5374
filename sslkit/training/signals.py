"""Signals that end a training after a step, not within one."""

import signal
from types import FrameType


class Signals:
    """Remembers SIGINT and SIGTERM instead of dying, so that a step can end and be kept."""

    def __enter__(self) -> "Signals":
        self.received = 0
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
