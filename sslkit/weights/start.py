"""A method whose student and teacher start from a checkpoint, with whatever else of the file fits it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sslkit.encoder.encoder import Encoder
from sslkit.weights.checkpoint import Checkpoint
from sslkit.weights.coverage import Coverage
from sslkit.weights.read import load_checkpoint, unwrapped


@dataclass(frozen=True)
class Parts:
    """What became of everything but the encoder, by group of tensors (see ``group``).

    Attributes:
        taken: groups that start from the file, with their number of tensors.
        left: why others of the file were not taken.
        fresh: groups of the method that are randomly initialised, in part at least.
        keys: of the file's tensors that were taken.
    """

    taken: list[str]
    left: list[str]
    fresh: list[str]
    keys: set[str]


@dataclass(frozen=True)
class StartingWeights:
    """Weights to start from.

    Attributes:
        encoder: filled.
        rest: what else the file holds, see ``Layout.rest``.
        coverage: which keys of the file filled the encoder.
    """

    encoder: Encoder
    rest: Mapping[str, tuple[str, Tensor]]
    coverage: Coverage

    @torch.no_grad()
    def apply(self, method: nn.Module) -> Parts:
        """Copy the weights into a freshly built method, before anything is trained: every encoder, and what fits."""
        state = self.encoder.model.state_dict()
        inside: set[str] = set()
        for name, module in method.named_modules():
            if isinstance(module, Encoder):
                module.model.load_state_dict(state, strict=True)
                inside |= {f"{name}.model.{key}" for key in state}
        idle = {key for key, parameter in method.named_parameters() if not parameter.requires_grad}
        return self._copy_rest({k: v for k, v in method.state_dict().items() if k not in inside}, idle)

    def _copy_rest(self, own: Mapping[str, Tensor], idle: set[str]) -> Parts:
        taken: Counter[str] = Counter()
        left: dict[str, str] = {}
        fresh, reached, keys = set(), set(), set()
        for key, target in own.items():
            name = canonical(key)
            if not transferable(name):
                continue
            if name not in self.rest:
                fresh |= set() if key in idle else {group(name)}  # what is not trained is not missed
                continue
            reached.add(name)
            file_key, value = self.rest[name]
            why = ""
            if value.shape != target.shape:
                why = f"is {tuple(value.shape)} in the file, {tuple(target.shape)} here"
            elif not value.is_floating_point() or not torch.isfinite(value).all():
                why = "holds values that are not finite floating-point numbers"
            if why:
                left.setdefault(group(name), f"{group(name)}: {file_key} {why}")
                fresh.add(group(name))
            else:
                target.copy_(value)
                keys.add(file_key)
                taken[group(name)] += not key.startswith("teacher.")
        homeless = sorted(name for name in self.rest.keys() - reached if transferable(name))
        for part, count in Counter(map(group, homeless)).items():
            left.setdefault(part, f"{part}: {count} tensor{'s' * (count > 1)} for which this recipe has no place")
        return Parts(
            taken=[f"{part} ({count})" for part, count in sorted(taken.items())],
            left=[left[part] for part in sorted(left)],
            fresh=sorted(fresh),
            keys=keys,
        )


def start_from(checkpoint: Checkpoint, encoder: Encoder) -> StartingWeights:
    """Fill an encoder, and keep what else the file holds.

    Raises:
        SslkitError: the file does not fill the encoder.
    """
    coverage = load_checkpoint(encoder, checkpoint)
    found = unwrapped(checkpoint, encoder.model.state_dict())
    return StartingWeights(encoder, found.layout.rest(checkpoint.tensors(), found.opened), coverage)


def canonical(key: str) -> str:
    """The key of a method's tensor without its branch: ``student.encoder.mask_token`` -> ``mask_token``."""
    return key.removeprefix("student.").removeprefix("teacher.").removeprefix("encoder.")


def group(name: str) -> str:
    """The part of a method that a tensor belongs to: ``heads.prototypes``, ``objectives.dino``, ``decoder``."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] in ("heads", "objectives") else parts[0]


def transferable(name: str) -> bool:
    """Whether a tensor can be another run's: positions are computed, and clusters belong to the data."""
    return (name == "mask_token" or "." in name) and name != "decoder.positions"
