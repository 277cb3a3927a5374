"""Metrics of a log interval: summed on the device, read once, written as one JSON line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, _foreach_add_  # pyright: ignore[reportPrivateImportUsage]

from sslkit.artifacts import is_there
from sslkit.distributed import process_group as distributed
from sslkit.files import append_line, atomic


class Meter:
    """Running means of 0-dim tensors. Adding never waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Count each metric once more; all in three operations, as a GPU with a small model waits for the host."""
        if not metrics:
            return
        stacked = torch.stack([*metrics.values()])
        stacked = stacked.to(torch.float32 if stacked.device.type == "mps" else torch.float64)  # MPS has no doubles
        values = dict(zip(metrics, stacked.unbind(), strict=True))
        known = self.sums.keys() & values.keys()
        if known:
            _foreach_add_([self.sums[key] for key in known], [values[key] for key in known])
        self.sums = {**values, **self.sums}
        for key in values:
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
    """Add one line to a metrics file; JSON has no number for what is not finite, so that becomes null.

    Raises:
        SslkitError: the disk is full.
    """
    append_line(path, plain(row))


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as JSON gives it back, with None for numbers that are not finite."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    return json.loads(json.dumps(finite))


def rewind(path: Path, step: int) -> str:
    """Drop the lines after a step, which a resumed run will write again, and a torn last line.

    Returns:
        What else was wrong with the file, in words: a log that is gone, or lines that cannot be read and are dropped.
    """
    if not is_there(path):
        return f"{path} is gone: the log begins anew after step {step}" if step else ""
    lines = path.read_bytes().split(b"\n")
    whole, torn = lines[:-1], lines[-1]
    steps = [_step(line) for line in whole]
    kept = [line for line, at in zip(whole, steps, strict=True) if at is not None and at <= step]
    if len(kept) < len(whole) or torn:
        with atomic(path) as handle:
            handle.writelines(line + b"\n" for line in kept)
    bad = sum(at is None for at in steps)
    if bad:
        return f"{path} is damaged: {bad} of its {len(whole)} lines cannot be read and are dropped"
    return "" if kept or not step else f"{path} is empty: the log begins anew after step {step}"


def _step(line: bytes) -> float | None:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) and not isinstance(step, bool) else None
