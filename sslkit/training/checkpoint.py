"""Everything needed to resume a run, in one file that is written whole or not at all, and checked before it is used.

Equal states give equal bytes, whether or not the run was resumed on the way: pickle refers back to objects that it has
met before, so which of two equal strings are one object would show in the file.
"""

import hashlib
import inspect
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslkit.artifacts import DamagedFile, Shape, check_zip, is_there, mismatch
from sslkit.files import atomic
from sslkit.recipe.schema import Recipe, as_dict

OVERHEAD = 1 << 16  # bytes of a checkpoint besides its tensors, roughly
NEEDED = {"lr", "weight_decay", "decays", "betas", "eps", "momentum"}  # others have defaults in some version of torch
SCALE = {"scale": float, "growth_factor": float, "backoff_factor": float, "growth_interval": int}
SCALE |= {"_growth_tracker": int, "overflows": int}
METER = {"sums": {str: object}, "counts": {str: int}}
SHAPE = {
    "run?": str,
    "step": int,
    "method": {str: object},
    "optimizer": {"state": dict, "param_groups": [{"params": [int], "lr": float, str: object}]},
    "meter": METER,
    "skipped_in_a_row": int,
    "skipped?": int,
    "last?": (dict, None),
    "loss_scale?": SCALE,  # of fp16
}


def identity(recipe: Recipe, data: str) -> str:
    """A digest of what a run's weights depend on, so that another run's checkpoint is not taken for its own.

    Args:
        recipe: resolved.
        data: fingerprint of the images.
    """
    settings = as_dict(recipe)
    del settings["train"]["checkpoint_blocks"]  # changes no number
    settings["method"].pop("teacher", None)  # a path, which may be written in several ways
    return hashlib.sha256(json.dumps([settings, data], sort_keys=True).encode()).hexdigest()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts).

    Raises:
        SslkitError: the disk is full.
    """
    size = sum(each.numel() * each.element_size() for each in _tensors(state)) + OVERHEAD
    # Through a handle: given a path, torch.save writes the file's name into the file.
    with atomic(path, size=size) as handle:
        torch.save(_canonical(state), handle)


def _canonical(value: Any) -> Any:
    """The same value of fresh containers and of strings of which equal ones are one object."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, OrderedDict):  # a state_dict; its versions of modules are kept
        fresh = OrderedDict((_canonical(key), _canonical(each)) for key, each in value.items())
        if hasattr(value, "_metadata"):
            fresh._metadata = _canonical(value._metadata)  # pyright: ignore[reportAttributeAccessIssue]
        return fresh
    if isinstance(value, dict):
        return {_canonical(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_canonical(each) for each in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)


def load(path: Path, device: torch.device, shape: Shape = SHAPE) -> dict[str, Any] | None:
    """What ``save`` wrote, or None when there is no file. Never runs its code.

    Args:
        path: the checkpoint.
        device: where its tensors go.
        shape: what the caller needs of it.

    Raises:
        DamagedFile: it cannot be read, a checksum is wrong, or it is not the checkpoint of a training run.
    """
    if not is_there(path):
        return None
    if not path.stat().st_size:
        raise DamagedFile(path, "it is empty")
    check_zip(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise DamagedFile(
            path, f"it cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})"
        ) from error
    if wrong := mismatch(state, shape):
        raise DamagedFile(path, f"it is not the checkpoint of a training run ({wrong})")
    return state


def restore(path: Path, state: Mapping[str, Any], method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fill a method and its optimizer from a checkpoint that was loaded from ``path``.

    Raises:
        DamagedFile: it is that of another model or optimizer; nothing was changed then.
    """
    wrong = unlike(state["method"], method.state_dict()) or _unlike_optimizer(state["optimizer"], optimizer)
    if wrong:
        raise DamagedFile(path, f"it is not the checkpoint of this model: {wrong}")
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])


def check_meter(path: Path, meter: Mapping[str, Any]) -> None:
    """Refuse sums that are no numbers, or that were not counted.

    Raises:
        DamagedFile: there are such.
    """
    sums, counts = meter["sums"], meter["counts"]
    numbers = all(isinstance(v, Tensor) and _dense(v) and v.ndim == 0 and v.is_floating_point() for v in sums.values())
    if not numbers or sums.keys() != counts.keys() or any(count < 1 for count in counts.values()):
        raise DamagedFile(path, "its running means are not numbers with a count")


def check_scale(path: Path, scale: Mapping[str, Any] | None) -> None:
    """Refuse a loss scale that is missing, not a positive number, or would not move as one does.

    Raises:
        DamagedFile: it is.
    """
    if scale is None:
        raise DamagedFile(path, "it has no loss scale, which fp16 needs")
    moves = 0 < scale["backoff_factor"] < 1 < scale["growth_factor"] < math.inf and scale["overflows"] >= 0
    counts = 0 <= scale["_growth_tracker"] <= scale["growth_interval"]
    if not (0 < scale["scale"] < math.inf and moves and counts):
        raise DamagedFile(path, "its loss scale is not a number that an overflow halves")


def unlike(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """How a state dict differs from a model's own in names, types and shapes, in words; empty if it does not."""
    for key in [*wanted, *found]:
        if key not in found or key not in wanted:
            return f"{key} is {'missing' if key not in found else 'not part of it'}"
        ours, theirs = wanted[key], found[key]
        if isinstance(ours, Tensor) and not isinstance(theirs, Tensor):
            return f"{key} is not a tensor"
        alike = not isinstance(ours, Tensor) or (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if not alike or (isinstance(ours, Tensor) and not _dense(theirs)):
            return f"{key} is {_described(theirs)}, not {_described(ours)}"
    return ""


def _unlike_optimizer(found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> str:
    """How an optimizer's state differs from what the optimizer can take; torch itself only counts the parameters."""
    own = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in found["param_groups"]] != [group["params"] for group in own]:
        return "its optimizer has other groups of parameters"
    for ours, theirs in zip(own, found["param_groups"], strict=True):
        for key in [key for key in ours if key in theirs or key in NEEDED]:
            if key not in theirs or _kind(theirs[key]) != _kind(ours[key]):
                return f"its optimizer's {key} is of the wrong kind"
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = _kept_of_a_parameter(optimizer)
    for number, state in found["state"].items():
        if not isinstance(number, int) or not 0 <= number < len(parameters) or not isinstance(state, dict):
            return "its optimizer has states of no parameter"
        if state.keys() != names:
            there = ", ".join(map(str, state)) or "nothing"
            return f"its optimizer keeps {there} of parameter {number}, not {', '.join(names)}"
        shape = parameters[number].shape
        for name, value in state.items():
            fits = isinstance(value, Tensor) and _dense(value) and value.is_floating_point()
            fits = fits and value.shape == (() if name == "step" else shape)
            if not (fits or (name == "step" and _kind(value) == "number")):
                what = _described(value) if isinstance(value, Tensor) else type(value).__name__
                return f"its optimizer's {name} of parameter {number} is {what}, not {tuple(shape)} of floats"
    return ""


def _kept_of_a_parameter(optimizer: torch.optim.Optimizer) -> Set[str]:
    """What an optimizer remembers of each parameter that has had a gradient; a step of a small one shows it."""
    accepted = inspect.signature(type(optimizer)).parameters
    number = nn.Parameter(torch.zeros(1))
    number.grad = torch.zeros(1)
    small = type(optimizer)([number], **{key: value for key, value in optimizer.defaults.items() if key in accepted})
    small.step()
    return small.state[number].keys()


def _kind(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_kind(each) for each in value]
    if value is None or isinstance(value, bool):
        return "switch"
    return "number" if isinstance(value, int | float) and math.isfinite(value) else type(value).__name__


def _dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not value.is_quantized and not value.is_meta


def _described(value: Tensor) -> str:
    odd = "" if _dense(value) else "sparse or without content, "
    return f"{odd}{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
