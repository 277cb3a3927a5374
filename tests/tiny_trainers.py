"""A training loop for tests: it evaluates and prints nothing, and its files lie in the test's folder."""

from collections.abc import Callable
from pathlib import Path

import torch

from sslkit.device import Precision
from sslkit.distributed.process_group import World
from sslkit.methods.base import Method
from sslkit.training.loop import Trainer


def trainer_of(
    method: Method,
    folder: Path,
    steps_per_epoch: int = 10,
    device: torch.device = torch.device("cpu"),
    precision: Precision = "fp32",
    say: Callable[[str], None] = lambda message: None,
) -> Trainer:
    """A trainer of one process, by the method's own recipe."""
    return Trainer(
        recipe=method.recipe,
        method=method,
        steps_per_epoch=steps_per_epoch,
        device=device,
        precision=precision,
        world=World(),
        checkpoint_path=folder / "checkpoint.pt",
        metrics_path=folder / "metrics.jsonl",
        evaluate=dict,
        features=lambda: torch.empty(0),
        keep=lambda epoch: None,
        say=say,
        quiet=True,
    )
