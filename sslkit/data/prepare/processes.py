"""Jobs done by a few processes that end when told to, when their parent dies, and with one clear error."""

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
    """Does one job and calls ``tick`` after every step of it; what ``tick`` raises must pass through."""

    def __call__(self, job: J, tick: Callable[[], None], /) -> None:
        """Do it."""
        ...


class Stopped(Exception):
    """Another job failed, or the user interrupted."""


def automatic_workers(jobs: int) -> int:
    """As many processes as there are cores and jobs; none for a single job."""
    available = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, jobs)
    return 0 if available < 2 else available


def run_all(work: Work[J], jobs: Sequence[J], workers: int | None, progress: Callable[[int], object]) -> None:
    """Do every job.

    Args:
        work: picklable; sent once to each process.
        jobs: picklable; done in any order.
        workers: processes; 0 does all in this one; None begins so, and takes one per core where that pays.
        progress: called now and then with the number of ticks so far.

    Raises:
        SslkitError: a process died.
        Exception: whatever the first failing job raised; the others are stopped.
    """
    if workers:
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
        if workers is None and pays and (processes := automatic_workers(left)):
            _in_processes(work, jobs[number:], processes, lambda count, before=done: progress(before + count))
            return
        work(job, tick)


def _in_processes(work: Work[J], jobs: Sequence[J], workers: int, progress: Callable[[int], object]) -> None:
    # Forked from a server without threads: safe beside torch's threads, and torch is imported once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sslkit.data.prepare.packing"])
    done, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work, done, stop)) as pool:
        try:
            # A worker that is only half started when its parent gives up finds the parent's locks gone, and prints a
            # traceback.
            with HeldSignals():
                _start_server()
                pending = {pool.submit(_do, job) for job in jobs}
            while pending:
                finished, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
                progress(done.value)
                for future in finished:
                    future.result()
        except BrokenProcessPool as error:
            raise SslkitError(
                "a worker process died (out of memory?); try fewer --workers, the same command goes on"
            ) from error
        except BaseException:
            with HeldSignals():
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_server() -> None:
    """Start the process that workers are forked from, with SIGINT blocked in it and so in all of them.

    Ctrl-C reaches every process of a terminal, while they import torch too; the parent says when to stop.
    """
    multiprocessing.resource_tracker.ensure_running()  # it lets SIGINT through again in the one who starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_process: dict[str, Any] = {}


def _start(work: Any, done: Any, stop: Any) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for a server that was started elsewhere, with SIGINT let through
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _process.update(work=work, done=done, stop=stop)


def _end_with_parent() -> None:
    # A parent killed by SIGKILL cannot say stop; without this its workers would wait for jobs forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _do(job: Any) -> None:
    _process["work"](job, _tick)


def _tick() -> None:
    with _process["done"].get_lock():
        _process["done"].value += 1
    if _process["stop"].is_set():
        raise Stopped
