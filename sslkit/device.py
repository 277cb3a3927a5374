"""The device and the precision that ``auto`` and explicit names stand for, the same in every stage."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from sslkit.errors import UsageError

Precision = Literal["bf16", "fp32"]


def pick_device(name: str = "auto") -> torch.device:
    """The device of a ``--device`` name; under torchrun a CUDA device is the local rank's own.

    Args:
        name: ``auto`` (CUDA, then MPS, then the CPU), ``cpu``, ``cuda`` or ``mps``.

    Raises:
        UsageError: unknown name, or this machine has no such device.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in has.items() if there)
    if name not in has:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or mps")
    if not has[name]:
        raise UsageError(f"--device {name}: torch {torch.__version__} finds no {name} device here; try --device cpu")
    if name != "cuda":
        return torch.device(name)
    rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= count:
        raise UsageError(f"local rank {rank} but only {count} CUDA devices: start at most {count} processes per node")
    return torch.device("cuda", rank)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """What ``--precision`` means on a device.

    ``auto`` is bf16 where the hardware multiplies bf16 matrices: CUDA devices that say so, and CPUs with
    AVX512-BF16 or AMX, where it is two to three times as fast as float32. On other CPUs bf16 is emulated, and slower.

    Raises:
        UsageError: unknown name.
    """
    if name == "bf16" or name == "fp32":
        return name
    if name != "auto":
        raise UsageError(f"--precision {name}: expected auto, bf16 or fp32")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_computes_bf16() else "fp32"


def _cpu_computes_bf16() -> bool:
    # get_capabilities is public in newer torch; the older ones only have the private questions.
    if hasattr(torch.cpu, "get_capabilities"):
        can = torch.cpu.get_capabilities()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """A context in which matrix products run in ``precision``; nothing changes for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
