"""Several processes under torchrun. With one process no group is made and every function is the identity."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")
PATIENCE = timedelta(hours=6)  # others wait while the leader evaluates or clusters


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """The process group that torchrun's environment describes, ended with the block."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


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
    """The leader's buffers, such as a ResNet's statistics, in every process."""
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
    """The leader's value, in every process."""
    if not dist.is_initialized():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
