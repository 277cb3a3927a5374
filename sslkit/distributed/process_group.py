"""The processes that torchrun or ``srun`` started. With one there is no group, and every function is the identity."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from sslkit.distributed.launch import rank_and_size
from sslkit.workers import cores

T = TypeVar("T")
PATIENCE = timedelta(hours=6)  # the others wait while the leader evaluates or clusters


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
def process_group(device: torch.device | None = None, patience: timedelta = PATIENCE) -> Iterator[World]:
    """The process group that the environment describes (see ``sslkit.distributed.launch``); it ends with the block.

    Args:
        device: where tensors are reduced; None for processes that only exchange Python objects, which gloo does on
            any device.
        patience: how long a process waits for the others.
    """
    _, size = rank_and_size(os.environ)
    if size == 1:
        yield World()
        return
    torch.set_num_threads(cores())  # torchrun would leave each process a single thread
    if device is not None and device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, timeout=patience)
    else:
        dist.init_process_group("gloo", timeout=patience)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


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
