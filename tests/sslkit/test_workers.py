import multiprocessing
import os

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sslkit import workers
from sslkit.errors import UsageError
from sslkit.signals import LEAVE

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("cores", "device", "expected"), [(2, CPU, 1), (2, CUDA, 1), (2, None, 2), (64, CPU, 16), (64, CUDA, 16)]
)
def test_auto_depends_on_where_the_model_computes(monkeypatch, cores, device, expected):
    monkeypatch.setattr(workers, "cores", lambda: cores)
    assert workers.worker_count("auto", device) == expected


def test_a_number_is_taken_as_it_is():
    assert workers.worker_count("3", CPU) == 3
    assert workers.worker_count("0") == 0
    for wrong in ("many", "-1", "1.5", ""):
        with pytest.raises(UsageError, match=f"--workers {wrong}: expected auto or a whole number from 0"):
            workers.worker_count(wrong, CPU)


def test_ranks_of_a_node_share_its_cores(monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    alone = workers.cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(alone * 4))
    assert workers.cores() == 1


def test_a_task_of_slurm_has_its_cores_to_itself(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: range(8))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert workers.cores() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")  # the task was bound to eight of the node's 32
    assert workers.cores() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")  # it was not bound
    assert workers.cores() == 3
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")  # one task, in which torchrun started four
    assert workers.cores() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "unexpected\n"}, 8),
        ({}, 8),
    ],
)
def test_a_container_has_the_cores_that_its_limit_allows(monkeypatch, tmp_path, files, expected):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: range(8))
    monkeypatch.setattr(workers, "CONTROL_GROUP", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert workers.cores() == expected


class OwnProcess(Dataset):
    """Every item is the number of the process that made it, after that process got the signals to leave."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        for number in LEAVE:
            os.kill(os.getpid(), number)
        return os.getpid()


def test_no_signal_to_leave_ends_a_loader_worker():
    loader = DataLoader(OwnProcess(), batch_size=None, num_workers=1, worker_init_fn=workers.leave_signals_to_parent)
    made = list(loader)
    assert len(made) == 4
    assert set(made) != {os.getpid()}
    assert not multiprocessing.active_children()
