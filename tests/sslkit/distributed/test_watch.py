"""A process that hangs is named, whatever the others are doing, and nobody waits for ever for one that never came."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ranks
import torch
from processes import Process

from sslkit.distributed import rendezvous
from sslkit.distributed.process_group import process_group
from sslkit.distributed.watch import Board, SignOfLife
from sslkit.errors import SslkitError, UsageError

BATCH = "the batch of step 3"
NAMES = ["process 0 (a)", "process 1 (b)", "process 2 (c)"]


def board(*times: tuple[float, list[tuple[int, int]]], hurried: bool = True, left: tuple[int, ...] = ()) -> Board:
    """A board with a patience of 10 s that got (reports, count) of three processes at some times."""
    made = Board(NAMES, 10)
    for now, pairs in times:
        made.note(
            [SignOfLife(n, count, hurried, rank in left, f"step {count}") for rank, (n, count) in enumerate(pairs)], now
        )
    return made


def test_nobody_hangs_while_reports_come_and_something_happens():
    times = [(t, [(t, 1), (t, t), (t, 1)]) for t in range(100)]
    assert board(*times).verdict(99) == ""


def test_a_process_without_reports_is_named():
    times = [(t, [(t, t), (t, t), (min(t, 5), 3)]) for t in range(17)]
    assert board(*times[:15]).verdict(14) == ""
    assert board(*times).verdict(16) == "no sign of life for 10 s from process 2 (c) after step 3"


def test_of_processes_that_report_the_one_that_is_behind_is_named():
    times = [(t, [(t, 8), (t, 7), (t, 8)]) for t in range(12)]
    assert board(*times[:11]).verdict(10) == ""
    expected = "nothing has happened for 10 s in process 1 (b) after step 7; others wait after step 8"
    assert board(*times).verdict(11) == expected
    assert board(*times, hurried=False).verdict(11) == ""


def test_who_has_left_is_not_missed_and_one_alone_waits_for_nobody():
    times = [(t, [(t, 8), (0, 8), (0, 8)]) for t in range(30)]
    assert "process 1 (b) after step 8, process 2 (c) after step 8" in board(*times).verdict(29)
    assert board(*times, left=(1, 2)).verdict(29) == ""


def say(folder: Path, line: str) -> None:
    """Print a line; process 0 stays until the others have ended, however long they take to read it too."""
    print(line, file=sys.stderr, flush=True)
    if os.environ["RANK"] == "0":
        await_end(folder)


def await_end(folder: Path) -> None:
    while not (folder / "ended").exists():
        time.sleep(0.005)


def exit_codes(folder: Path, leader: Process, others: list[Process]) -> list[int]:
    codes = [each.wait(40) for each in others]
    (folder / "ended").touch()
    return [leader.wait(40), *codes]


class Clock:
    """A process's ``time``, which does not depend on how busy the machine is: it stands still until the test says so.

    Then 25 s pass in process 0 whenever all processes that are not stopped have reported again, if the others wait for
    the one that hangs. Where process 0 is stopped, 10 s pass in the others whenever they look at the clock.
    """

    sleep = staticmethod(time.sleep)

    def __init__(self, runs: Path, hangs: int, stopped: bool):
        self.now, self.reported, self.runs = 0, {}, runs
        self.hangs, self.stopped = hangs, hangs if stopped else None

    def monotonic(self) -> float:
        if self.stopped == 0 and self.runs.exists():
            self.now += 10
        return self.now

    def follow(self, reports: list[SignOfLife]) -> list[SignOfLife]:
        there = {rank: each for rank, each in enumerate(reports) if rank != self.stopped}
        wait = all(each.place == ("step 2" if rank == self.hangs else BATCH) for rank, each in there.items())
        if wait and self.runs.exists() and all(self.reported.get(rank) != there[rank].reports for rank in there):
            self.now, self.reported = self.now + 25, {rank: each.reports for rank, each in there.items()}
        return reports


def hang(folder: Path, how: str) -> None:
    """Three steps, each with a sum over all processes; in the third, one hangs."""
    from torch import distributed as dist

    from sslkit.distributed import watch
    from sslkit.distributed.process_group import beat

    hangs, found = int(os.environ["HANGS"]), watch.HangWatch._found
    clock = watch.time = Clock(folder / "runs", hangs, how == "stopped")
    watch.INTERVAL = 0.05
    watch.HangWatch._found = lambda self: clock.follow(found(self))
    with process_group(torch.device("cpu"), say=lambda line: say(folder, line)) as world:
        for step in (1, 2, 3):
            if step == 3 and world.rank == hangs:
                (folder / "hangs").touch()
                threading.Event().wait()
            beat(f"the batch of step {step}")
            dist.all_reduce(torch.ones(2))
            beat(f"step {step}")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", ["stopped", "waiting for a thread"])
def test_a_process_that_hangs_ends_the_others_with_a_line_that_names_it(tmp_path, how, rank):
    processes = ranks.start(hang, 3, tmp_path, how, HANGS=str(rank), SSLKIT_PATIENCE="60")
    name = f"process {rank} (pid {processes[rank].pid} on "
    processes[rank].wait_for((tmp_path / "hangs").exists)
    if how == "stopped":
        processes[rank].send_signal(signal.SIGSTOP)
    (tmp_path / "runs").touch()
    leader, *others = (each for number, each in enumerate(processes) if how != "stopped" or number != rank)
    assert set(exit_codes(tmp_path, leader, others)) == {1}
    ranks.exit_codes(processes, 0)
    lines = "".join(ranks.said(tmp_path, 3)).splitlines()
    said = [line for line in lines if name in line]
    assert said
    assert said[0].endswith("all processes end here; rerun the same command to resume")
    assert not [line for line in lines if "process " in line and name not in line]
    if how == "stopped":
        assert said[0].startswith("no sign of life for 60 s from")
    else:
        assert said[0].startswith("nothing has happened for 60 s in")
        assert f"after step 2; others wait after {BATCH}" in said[0]


@pytest.mark.parametrize("rank", [0, 2])
def test_a_process_that_fails_is_named_while_the_others_wait_for_another_one(tmp_path, rank):
    """As with NCCL, where nobody notices a connection that ends."""
    processes = ranks.start(fail, 3, tmp_path, HANGS=str(rank), SSLKIT_PATIENCE="60")
    codes = exit_codes(tmp_path, processes[0], processes[1:])
    ranks.exit_codes(processes, 0)
    assert codes == [1, 1, 1]
    first, second, _ = ranks.said(tmp_path, 3)
    assert "process" not in second
    if rank == 2:  # process 0 says its own last line itself
        assert first.startswith("process 2 (pid ")
        assert "failed after step 1 (no space left); all processes end here" in first


def fail(folder: Path) -> None:
    from sslkit.distributed import watch
    from sslkit.distributed.process_group import beat

    class Patient(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            super().join(40)

    watch.INTERVAL, watch.threading = 0.05, SimpleNamespace(Thread=Patient, Event=threading.Event)
    watch.HangWatch._await_leaving = lambda self, seconds: await_end(folder)
    with process_group(torch.device("cpu"), say=lambda line: say(folder, line)) as world:
        beat("step 1")
        if world.rank == int(os.environ["HANGS"]):
            raise SslkitError("no space left")
        threading.Event().wait()


def enter(folder: Path, *tasks: str) -> None:
    with process_group(task=tasks[int(os.environ["RANK"])], say=print):
        pass


def test_processes_that_would_do_different_things_say_how_to_be_independent(tmp_path):
    processes = ranks.start(enter, 2, tmp_path, "pretrain runs/a", "pretrain runs/b")
    assert ranks.exit_codes(processes) == [1, 1]
    for text in ranks.said(tmp_path, 2):
        line = text.strip().splitlines()[-1]
        assert "process 0 is to pretrain runs/a, but process 1 (pid " in line
        assert "WORLD_SIZE=1 in the environment runs this process on its own" in line


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The ``time`` of processes that look for each other: from now on it passes only while they sleep."""
    clock = SimpleNamespace(slept=0.0, monotonic=lambda: began + clock.slept)
    clock.sleep = lambda seconds: setattr(clock, "slept", clock.slept + seconds)
    began = time.monotonic()
    monkeypatch.setattr(rendezvous, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("rank", "whom"), [("0", "process 1, 2, to meet at 127.0.0.1:"), ("1", "process 0 at 127.0.0.1:")]
)
def test_nobody_waits_for_ever_for_processes_that_were_not_started(monkeypatch, clock, rank, whom):
    said = []
    place = {"RANK": rank, "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ranks.free_ports()[0]}
    for name, value in {**place, "SSLKIT_PATIENCE": "12"}.items():
        monkeypatch.setenv(name, value)
    message = f"process {rank} of 0 to 2 has waited 12 s for {whom}"
    with pytest.raises(SslkitError, match=message), process_group(task="work", say=said.append):
        pass
    assert len(said) == 1
    assert said[0].startswith(f"process {rank} of 0 to 2 waits for {whom}")
    assert "; it gives up after 12 s." in said[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MASTER_ADDR", "", "start the processes with torchrun or srun"),
        ("MASTER_PORT", "99999", "start the processes with torchrun or srun"),
        ("SSLKIT_PATIENCE", "soon", "SSLKIT_PATIENCE=soon in the environment: expected seconds, such as 600"),
        ("SSLKIT_PATIENCE", "nan", "expected seconds"),
    ],
)
def test_what_the_environment_lacks_is_said(monkeypatch, name, value, message):
    good = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "SSLKIT_PATIENCE": "1"}
    for key, text in {**good, name: value}.items():
        monkeypatch.setenv(key, text)
    with pytest.raises(UsageError, match=message), process_group():
        pass


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (socket.EAI_NONAME, UsageError, r"node1, .* has no address here \(no\): set MASTER_ADDR to an address of the"),
        (socket.EAI_AGAIN, SslkitError, r"has waited 12 s for an address of the host node1 \(no\)"),
    ],
    ids=["no such host", "no answer yet"],
)
def test_the_address_of_a_host_is_waited_for_unless_it_has_none(monkeypatch, clock, number, error, message):
    def resolve(*_):
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(rendezvous.socket, "getaddrinfo", resolve)
    place = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "node1", "MASTER_PORT": "1", "SSLKIT_PATIENCE": "12"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message), process_group(say=print):
        pass
    assert (clock.slept > 0) == (number == socket.EAI_AGAIN)
