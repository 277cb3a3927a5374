"""Metrics of a log interval: summed on the device, read once, written as one JSON line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslkit.distributed import process_group as distributed
from sslkit.files import atomic


class Meter:
    """Running means of 0-dim tensors. Adding never waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Count each metric once more."""
        for key, value in metrics.items():
            value = value.to(torch.float32 if value.device.type == "mps" else torch.float64)  # MPS has no doubles
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def read(self) -> dict[str, float]:
        """Means over the interval and all processes; starts a new interval. The one place where the host waits."""
        # A metric that some process does not have this time (no crop was masked there) is left out.
        shared = distributed.common(sorted(self.sums))
        means = distributed.mean({key: self.sums[key] / self.counts[key] for key in shared})
        values = torch.stack([means[key].float() for key in shared]).tolist() if shared else []
        self.sums, self.counts = {}, {}
        return dict(zip(shared, values, strict=True))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": self.sums, "counts": self.counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line to a metrics file; JSON has no number for what is not finite, so that becomes null."""
    row = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")


def rewind(path: Path, step: int) -> None:
    """Drop the lines after a step, which a resumed run will write again, and a torn last line."""
    if not path.exists():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
    with atomic(path, "w") as handle:
        handle.writelines(line + "\n" for line in kept)


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")
