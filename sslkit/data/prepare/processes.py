"""Jobs done by worker processes, which end when told to and when their parent dies; a failure is one clear error."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from sslkit.errors import SslkitError
from sslkit.signals import HeldSignals

J = TypeVar("J", contravariant=True)
POLL_SECONDS = 0.2
PAYS_SECONDS = 6.0  # of work left: processes take about 3 s to import torch


class Work(Protocol[J]):
    """Does one job and calls ``tick`` after each step of it; it must not catch what ``tick`` raises."""

    def __call__(self, job: J, tick: Callable[[], None], /) -> None:
        """Do a job."""
        ...


class Stopped(Exception):
    """Raised in a worker when another job failed or the user interrupted."""


def run_all(
    work: Work[J], jobs: Sequence[J], workers: int, progress: Callable[[int], object], eager: bool = True
) -> None:
    """Do every job.

    Args:
        work: picklable; sent once to each process.
        jobs: picklable; done in any order.
        workers: at most so many processes; 0 does all jobs in this one.
        progress: called now and then with the number of ticks so far.
        eager: start the processes at once; else begin in this process, and start them only when the jobs left would
            take longer than that.

    Raises:
        SslkitError: a process died.
        Exception: whatever the first failing job raised; the others are stopped.
    """
    if workers and eager:
        _in_processes(work, jobs, min(workers, max(1, len(jobs))), progress)
        return
    done, began = 0, time.monotonic()

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done)

    for number, job in enumerate(jobs):
        left = len(jobs) - number
        pays = number > 0 and (time.monotonic() - began) / number * left > PAYS_SECONDS
        if pays and min(workers, left) > 1:
            _in_processes(work, jobs[number:], min(workers, left), lambda count, before=done: progress(before + count))
            return
        work(job, tick)


def _in_processes(work: Work[J], jobs: Sequence[J], workers: int, progress: Callable[[int], object]) -> None:
    # Forked from a server without threads, which is safe whatever torch's threads do here; torch is imported once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sslkit.data.prepare.packing"])
    # Without locks: a worker that is killed while it holds one would let everybody wait for ever. Ticks are counted for
    # each job, which one process does.
    done, stop = context.RawArray("q", len(jobs)), context.RawValue("b", False)
    with HeldSignals():  # Python would call a semaphore that is half made a leaked one
        pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work, done, stop))
    with pool:
        try:
            # A worker that is half started when its parent gives up would find the parent's locks gone and print a
            # traceback.
            with HeldSignals():
                _start_server()
                pending = {pool.submit(_do, number, job) for number, job in enumerate(jobs)}
            while pending:
                finished, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
                progress(sum(done))
                for future in finished:
                    future.result()
        except BrokenProcessPool as error:
            raise SslkitError(
                "a worker process died (out of memory?); use fewer --workers and rerun the same command to resume"
            ) from error
        except BaseException:
            with HeldSignals():
                stop.value = True
                pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_server() -> None:
    """Start the process that workers are forked from, with SIGINT and SIGUSR1 blocked in it and thus in all of them.

    Ctrl-C reaches every process of a terminal, and SLURM's warning every process of a task, even while it imports
    torch; the parent says when to stop.
    """
    multiprocessing.resource_tracker.ensure_running()  # unblocks SIGINT in its caller, so it must come first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_process: dict[str, Any] = {}


def _start(work: Any, done: Any, stop: Any) -> None:
    import torch

    # These are the parent's, as in every worker; they are not blocked if something else started the server. SIGTERM is
    # not ignored, unlike in a loader's worker: the pool uses it to end the other workers when one has died.
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _process.update(work=work, done=done, stop=stop)


def _end_with_parent() -> None:
    # A parent killed by SIGKILL cannot stop its workers; without this they would wait for jobs forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _do(number: int, job: Any) -> None:
    def tick() -> None:
        _process["done"][number] += 1
        if _process["stop"].value:
            raise Stopped

    _process["work"](job, tick)
