"""Finds the process that hangs. Collective operations make the others wait for it, for hours and without a word.

Each process counts what it has done, and a thread of its own reports the count to process 0 every few seconds. A report
that stays away means that the process, or its node, is gone or stopped. Where all reports come and no count grows,
those with the smallest count are the ones that the others wait for. Counts are not compared while one process works on
what has no end that could be expected, such as an evaluation.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

INTERVAL = 5.0  # seconds between reports, at most
OPENING = "the start"
ADVICE = "all processes end here; rerun the same command to resume"


@dataclass(frozen=True)
class SignOfLife:
    """What a process says about itself.

    Attributes:
        reports: how many it has made.
        count: of what it has done since it started; grows with every step and every part of it.
        hurried: whether the count is expected to grow.
        left: whether it is done and has left.
        place: where it is, in words.
        failure: why it has left, where it was not done.
    """

    reports: int
    count: int
    hurried: bool
    left: bool
    place: str
    failure: str = ""


@dataclass
class Board:
    """All reports as process 0 sees them.

    Attributes:
        names: of the processes, by rank.
        patience: seconds.
    """

    names: Sequence[str]
    patience: float
    latest: list[SignOfLife] = field(default_factory=list)

    def note(self, reports: Sequence[SignOfLife], now: float) -> None:
        """Take the processes' latest reports at a time in seconds."""
        if not self.latest:
            self.heard, self.moved = [now] * len(reports), now
        elif any(new.count != old.count for new, old in zip(reports, self.latest, strict=True)):
            self.moved = now
        for rank, (new, old) in enumerate(zip(reports, self.latest, strict=False)):
            if new.reports != old.reports:
                self.heard[rank] = now
        if not all(report.hurried for report in reports if not report.left):
            self.moved = now
        self.latest = list(reports)

    def failure(self, reports: Sequence[SignOfLife]) -> str:
        """The first process that failed, in words; empty if none did."""
        failed = [(name, each) for name, each in zip(self.names, reports, strict=False) if each.failure]
        return next((f"{name} failed after {each.place} ({each.failure})" for name, each in failed), "")

    def verdict(self, now: float) -> str:
        """Who hangs, in words; empty if nobody does."""
        if failure := self.failure(self.latest):
            return failure
        there = [rank for rank, report in enumerate(self.latest) if not report.left]
        lost = [rank for rank in there if now - self.heard[rank] > self.patience]
        if lost:
            names = ", ".join(f"{self.names[rank]} after {self.latest[rank].place}" for rank in lost)
            return f"no sign of life for {self.patience:g} s from {names}"
        if len(there) < 2 or now - self.moved <= self.patience:  # one alone waits for nobody
            return ""
        least = min(self.latest[rank].count for rank in there)
        slow = [rank for rank in there if self.latest[rank].count == least]
        others = next((self.latest[rank].place for rank in there if rank not in slow), "")
        names = ", ".join(f"{self.names[rank]} after {self.latest[rank].place}" for rank in slow)
        waiting = f"; others wait after {others}" if others else ""
        return f"nothing has happened for {self.patience:g} s in {names}{waiting}"


class HangWatch:
    """The watch of one process.

    Args:
        store: shared by all processes; the watch takes a connection of its own.
        names: of all processes, by rank.
        rank: of this one.
        speaks: whether it prints the line when process 0, which otherwise does, is the one that hangs.
        patience: seconds without a sign of life, or without progress, that count as hanging.
        say: prints a line.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        rank: int,
        speaks: bool,
        patience: float,
        say: Callable[[str], None],
    ):
        self.store, self.rank, self.speaks, self.say = store.clone(), rank, speaks, say
        self.store.set_timeout(timedelta(days=365))  # torch prints warnings about each wait that ends too early
        self.board = Board(names, patience)
        self.interval = min(INTERVAL, patience / 5)
        self.reports, self.count, self.place, self.hurried = 0, 0, OPENING, False
        self.answered, self.answer = time.monotonic(), ""
        self.stopped = threading.Event()
        # The store has no time limit that it keeps: one thread may wait for it for ever, the other looks at the clock.
        self.threads = [threading.Thread(target=each, daemon=True) for each in (self._talk, self._look)]

    def start(self) -> None:
        """Begin to report. Every process calls it, and then waits for the others."""
        self._report()
        if self.rank == 0:
            self.store.set("board", "0")
        for thread in self.threads:
            thread.start()

    def stop(self, failure: str = "") -> None:
        """End the reports with a last one that says so, and why where this process was not done."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(self.interval)
        if any(thread.is_alive() for thread in self.threads):
            return
        with suppress(RuntimeError):  # process 0, which keeps the store, may have left before
            self._report(left=True, failure=failure)
            if failure and self.rank == 0:
                # The store ends with this process: the others read this first.
                self.store.set("board", f"{self.board.names[0]} failed after {self.place} ({failure})")
                self._await_leaving(3 * self.interval)

    def _await_leaving(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(report.left for report in self._found()[1:]):
            time.sleep(self.interval / 20)

    def beat(self, place: str) -> None:
        """Note that something was done, and what."""
        self.count, self.place, self.hurried = self.count + 1, place, True

    def ends(self) -> bool:
        """Whether a process that hangs was found, so that all of them are about to end."""
        return bool(self.answer) and not self.answer.isdecimal()

    def failure(self) -> str:
        """Who hangs or has said that it failed, in words; empty if nobody does, or process 0 is gone."""
        with suppress(RuntimeError):
            answer = self.store.get("board").decode()
            return self.board.failure(self._found()) if answer.isdecimal() else answer
        return ""

    def relax(self, place: str) -> None:
        """Note that what follows may take any time while the others wait, until the next beat."""
        self.place, self.hurried = place, False

    def _report(self, left: bool = False, failure: str = "") -> None:
        self.reports += 1
        words = [self.reports, self.count, self.hurried, left, self.place, failure]
        self.store.set(f"watch/{self.rank}", json.dumps(words))

    def _found(self) -> list[SignOfLife]:
        """The latest reports of all; a stand-in for a process that has not begun to report."""
        keys = [f"watch/{rank}" for rank in range(len(self.board.names))]
        there = [self.store.get(key) if self.store.check([key]) else None for key in keys]
        return [SignOfLife(*json.loads(each)) if each else SignOfLife(0, 0, False, False, OPENING) for each in there]

    def _talk(self) -> None:
        """Report to process 0, and read its answer, which stays the same when it stops."""
        with suppress(RuntimeError):  # the connection is gone, and so no more answers come
            while not self.stopped.wait(self.interval):
                self._report()
                if self.rank == 0:
                    self._judge()
                elif (answer := self.store.get("board").decode()) != self.answer:
                    self.answer, self.answered = answer, time.monotonic()
                    if self.ends():
                        self._report(left=True)  # process 0 need not wait any longer

    def _judge(self) -> None:
        """Look at all reports, and answer them."""
        found = self._found()
        self.answered = time.monotonic()
        if self.ends():
            return  # the others leave, so that it would look as if nobody hung
        self.board.note(found, self.answered)
        self.answer = self.board.verdict(self.answered)
        self.store.set("board", self.answer or str(self.reports))

    def _look(self) -> None:
        """End this process when one of them hangs."""
        while not self.stopped.wait(self.interval):
            found = self.ends()
            silent = time.monotonic() - self.answered > self.board.patience + 2 * self.interval
            if found and self.rank == 0:
                self.say(f"{self.answer}; {ADVICE}")
                self.stopped.wait(3 * self.interval)  # until the others have read it too
            elif silent and self.speaks:
                self.say(f"no sign of life for {self.board.patience:g} s from {self.board.names[0]}; {ADVICE}")
            if (found or silent) and not self.stopped.is_set():
                os._exit(1)  # the main thread waits in an operation that cannot be interrupted
