"""The processes that torchrun or ``srun`` started. With one there is no group, and every function is the identity."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from sslkit.distributed.launch import rank_and_size
from sslkit.distributed.rendezvous import Meeting
from sslkit.distributed.watch import HangWatch
from sslkit.errors import SslkitError, UsageError
from sslkit.workers import cores

T = TypeVar("T")
LONGEST = timedelta(days=7)  # of one wait for the others, such as that for the rest of an extraction
PATIENCE = 600.0  # seconds until a process that hangs ends the run, see ``watch``
SET_PATIENCE = "SSLKIT_PATIENCE"  # in the environment, in seconds
LOST = ("Connection", "closed by peer", "Broken pipe", "imed out", "Socket", "remote process exited")
_watch: HangWatch | None = None


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and the run's record."""
        return self.rank == 0

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """This process's part of the work: every ``size``-th item."""
        return work[self.rank :: self.size]


@contextmanager
def process_group(
    device: torch.device | None = None, task: str = "work", say: Callable[[str], None] = print
) -> Iterator[World]:
    """The process group that the environment describes (see ``sslkit.distributed.launch``); it ends with the block.

    Args:
        device: where tensors are reduced; None for processes that only exchange Python objects, which gloo does on
            any device.
        task: what all of the processes are about to do, in words.
        say: prints a remark on processes that others wait for.

    Raises:
        SslkitError: some processes did not come, or were lost on the way.
    """
    global _watch
    rank, size = rank_and_size(os.environ)
    if size == 1:
        yield World()
        return
    patience = _patience()
    store, names = Meeting(task, patience, say).meet()
    torch.set_num_threads(cores())  # torchrun would leave each process a single thread
    on_cuda = device is not None and device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_cuda else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=LONGEST,
        device_id=device if on_cuda else None,
    )
    speaks = rank == 1 or os.environ.get("LOCAL_RANK", "0") == "0"  # once on each node
    _watch = HangWatch(store, names, rank, speaks, patience, say)
    failure = ""
    try:
        _watch.start()
        yield World(rank, size)
    except BaseException as error:
        failure = (str(error) or type(error).__name__).splitlines()[0]
        if not isinstance(error, RuntimeError) or not any(word in str(error) for word in LOST):
            raise
        if _watch.ends():
            threading.Event().wait()  # it has said why, and ends this process
        why = _watch.failure() or "the connection to another process was lost: see its own last line"
        raise SslkitError(f"{why}; rerun the same command to resume") from error
    finally:
        _watch.stop(failure)
        _watch = None
        dist.destroy_process_group()


def _patience() -> float:
    text = os.environ.get(SET_PATIENCE, str(PATIENCE))
    with suppress(ValueError):
        if 0 < float(text) < LONGEST.total_seconds():
            return float(text)
    raise UsageError(f"{SET_PATIENCE}={text} in the environment: expected seconds, such as 600")


@contextmanager
def unhurried(place: str) -> Iterator[None]:
    """A block that may take any time while the others wait; the process has come as far as ``place``."""
    relax(place)
    yield
    beat(place)


def beat(place: str) -> None:
    """Note that this process has done something, and what: processes that do not are named; see ``watch``."""
    if _watch is not None:
        _watch.beat(place)


def relax(place: str) -> None:
    """Note that this process begins to do what may take any time, until its next ``beat``."""
    if _watch is not None:
        _watch.relax(place)


def processes() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each value averaged over all processes, in one message."""
    if not values or not dist.is_initialized():
        return dict(values)
    flat = torch.cat([v.float().flatten() for v in values.values()])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([v.numel() for v in values.values()])
    return {key: part.view_as(value) for (key, value), part in zip(values.items(), parts, strict=True)}


def gathered_rows(rows: Tensor, total: int) -> Tensor:
    """Rows 0::W, 1::W, ... of W processes -> (total, D), in order and the same in every process."""
    if not dist.is_initialized():
        return rows
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows)
    whole = rows.new_empty((total, *rows.shape[1:]))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


def same_buffers(module: torch.nn.Module) -> None:
    """Copy the leader's buffers, such as a ResNet's statistics, to every process."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def any_of(flag: Tensor) -> Tensor:
    """A 0-dim bool: true when it is true in any process."""
    if not dist.is_initialized():
        return flag
    number = flag.float()
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return number > 0


def common(names: list[str]) -> list[str]:
    """The names that every process has, in the leader's order."""
    if not dist.is_initialized():
        return names
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, names)
    return [name for name in everyone[0] if all(name in theirs for theirs in everyone)]


def largest(value: int) -> int:
    """The largest of the processes' values."""
    if not dist.is_initialized():
        return value
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, value)
    return max(everyone)


def from_leader(value: T) -> T:
    """The leader's value, any object that can be pickled, in every process."""
    if not dist.is_initialized():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@torch.no_grad()
def fill_from_leader(out: Tensor, make: Callable[[], Tensor]) -> None:
    """Write a tensor that only the leader makes into ``out`` in every process."""
    if processes() == 1 or dist.get_rank() == 0:
        out.copy_(make())
    if processes() > 1:
        dist.broadcast(out, src=0)
