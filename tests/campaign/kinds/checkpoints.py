"""The checkpoint and the log of an interrupted training run, damaged, through the command that resumes it."""

import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from campaign.damage import damage_file, damage_value, odd_file
from campaign.kind import Damage, Kind
from campaign.kinds.run_artifacts import IMPORTED, PREPARE, PRETRAIN, chained, digests, in_a_child, sslkit, write_inputs


def _interrupted(folder: Path) -> None:
    """A run that was stopped at its second step of four."""
    from sslkit.training.loop import Trainer

    chained(folder, (PREPARE,))
    leave = Trainer._keep_or_leave

    def stop(self: Trainer, *arguments: Any) -> None:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        leave(self, *arguments)

    Trainer._keep_or_leave = stop
    if sslkit(PRETRAIN) != 128 + signal.SIGTERM:
        raise SystemExit("the run was not interrupted")


class Checkpoints(Kind):
    """Whatever a checkpoint holds, it is resumed from with the result of the undisturbed run, or refused."""

    weight = 0.25

    def build(self, folder: Path) -> None:
        """An interrupted run."""
        for name in IMPORTED:
            importlib.import_module(name)
        write_inputs(folder)
        in_a_child(lambda: _interrupted(folder))

    def warm_up(self, folder: Path, sslkit: Callable[[list[str]], int]) -> None:
        """Only import: the command trains."""
        for name in IMPORTED:
            importlib.import_module(name)

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Bytes, which checksums tell of; or values, tensors and names, of which nothing tells but their kind."""
        name = draw.choice(("checkpoint.pt", "checkpoint.pt", "checkpoint.pt", "metrics.jsonl", "recipe.yaml"))
        path = folder / "run" / "a" / "pretrain" / name
        way = draw.choice(("bytes", "bytes", "value", "value", "tensor", "tensor", "odd", "gone"))
        if way == "odd":
            return Damage(odd_file(path, draw))
        if way == "gone":
            path.unlink()
            return Damage(f"{name} gone")
        if way == "bytes" or name != "checkpoint.pt":
            return Damage(damage_file(path, draw))
        import torch

        state = torch.load(path, weights_only=True)
        if way == "value":
            state, words = damage_value(state, draw)
        else:
            words = _damage_tensor(state, draw)
        torch.save(state, path)
        return Damage(f"checkpoint: {words}", recorded=False)

    def commands(self, folder: Path) -> list[list[str]]:
        """Resume."""
        return [PRETRAIN.split()]

    def result(self, folder: Path) -> Any:
        """The trained encoder."""
        wanted = ("a/pretrain/encoder.safetensors", "a/pretrain/checkpoint.pt")
        return {name: digest for name, digest in digests(folder / "run").items() if name in wanted}


def _damage_tensor(state: dict[str, Any], draw: Random) -> str:
    """Give one tensor another shape, type or content; returns what was done."""
    import torch

    places = [(part, key) for part in (state["method"], *state["optimizer"]["state"].values()) for key in part]
    part, key = draw.choice(places)
    old = part[key]
    ways = {
        "shape": lambda: torch.zeros(*old.shape, 2),
        "fewer": lambda: old.flatten()[:1],
        "int": lambda: old.to(torch.int64),
        "half": lambda: old.half(),
        "nan": lambda: torch.full_like(old, float("nan")) if old.is_floating_point() else old,
        "sparse": lambda: old.float().to_sparse(),
        "text": lambda: "text",
    }
    way = draw.choice([*ways])
    part[key] = ways[way]()
    return f"{key} {way}"
