"""Worker processes: how many of them, and why no signal ends one.

The number of workers never changes a result, only the time.
"""

import math
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.errors import UsageError
from sslkit.signals import LEAVE

if TYPE_CHECKING:
    import torch


CONTROL_GROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """CPU cores of this process: its own where SLURM counts them, else those of the node divided among its ranks.

    In a container those of the node are as many as its limit allows.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = math.ceil(min(allowed, _container_limit()))
    own = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if own.isdecimal() and int(own) and "TORCHELASTIC_RUN_ID" not in os.environ:  # torchrun divides its task's cores
        return min(allowed, int(own))
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _container_limit() -> float:
    """Cores' worth of CPU time that a container (``docker run --cpus``, a Kubernetes limit) may use; else infinity."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # version 2, version 1
        try:
            quota, period = " ".join((CONTROL_GROUP / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal() and period.isdecimal() and int(period):  # else "max", or -1
            return int(quota) / int(period)
    return math.inf


def worker_count(asked: str, device: "torch.device | None" = None) -> int:
    """How many worker processes a ``--workers`` value asks for.

    ``auto`` takes one per core where no model runs. It leaves one core to the process that feeds an accelerator (at
    most 16 workers), and takes one core in four, at least one, where the model itself computes on the CPU.

    Args:
        asked: ``auto``, or a number from 0; 0 works without further processes.
        device: where the model computes; None where there is no model.

    Raises:
        UsageError: neither ``auto`` nor a whole number from 0.
    """
    if asked != "auto":
        if not asked.isdecimal():
            raise UsageError(f"--workers {asked}: expected auto or a whole number from 0")
        return int(asked)
    if device is None:
        return cores()
    if device.type == "cpu":
        return max(1, cores() // 4)
    return min(16, max(1, cores() - 1))


def leave_signals_to_parent(worker: int = 0) -> None:
    """Let a loader's worker ignore the signals to leave: a ``worker_init_fn``.

    Ctrl-C, and the signals of a batch system, reach every process of a job. A worker that died of them would take the
    current step down with it; the parent finishes the step, saves it, and then ends its workers.
    """
    for number in LEAVE:
        signal.signal(number, signal.SIG_IGN)
