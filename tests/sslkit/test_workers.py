import multiprocessing
import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sslkit import workers
from sslkit.errors import UsageError

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
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = workers.cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(alone * 4))
    assert workers.cores() == 1


class OwnProcess(Dataset):
    """Every item is the number of the process that made it, after that process got both signals."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return os.getpid()


def test_neither_signal_ends_a_loader_worker():
    loader = DataLoader(OwnProcess(), batch_size=None, num_workers=1, worker_init_fn=workers.leave_signals_to_parent)
    made = list(loader)
    assert len(made) == 4
    assert set(made) != {os.getpid()}
    assert not multiprocessing.active_children()
