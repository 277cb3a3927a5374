"""The device and the precision that ``auto`` and explicit names stand for, the same in every stage."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from sslkit.errors import UsageError
from sslkit.workers import cores

Precision = Literal["bf16", "fp16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TENSOR_CORES, TF32 = (7, 0), (8, 0)  # CUDA compute capabilities that have them


def pick_device(name: str = "auto") -> torch.device:
    """The device of a ``--device`` name; under torchrun a CUDA device is the local rank's own.

    On the CPU torch gets no more threads than this process has cores, unless ``OMP_NUM_THREADS`` says how many.

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
    if name == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Left alone, it counts the cores of the machine, not those that a container may use; then threads wait in turn.
        torch.set_num_threads(min(torch.get_num_threads(), cores()))
    if name != "cuda":
        return torch.device(name)
    rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= count:
        raise UsageError(f"local rank {rank} but only {count} CUDA devices: start at most {count} processes per node")
    return torch.device("cuda", rank)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """What ``--precision`` means on a device.

    ``auto`` is bf16 where the hardware multiplies bf16 matrices fast: CUDA devices that say so, and CPUs with AMX or
    AVX512-BF16, where it is two to three times as fast as float32. On other CPUs bf16 is emulated, and slower; so it is
    on Intel's CPUs with AVX512-FP16 (Sapphire Rapids and later) in a virtual machine that hides their AMX: what is left
    of bf16 there has half the throughput of float32.
    Other CUDA devices with tensor cores (V100, T4, RTX 20) take fp16. With fp32 on CUDA, matrix products are computed
    in TF32 where the device has it.

    Raises:
        UsageError: unknown name.
    """
    if name not in ("auto", "bf16", "fp16", "fp32"):
        raise UsageError(f"--precision {name}: expected auto, bf16, fp16 or fp32")
    found = _fastest(device) if name == "auto" else name
    if found == "fp32" and device.type == "cuda":
        # Not torch.backends.cuda.matmul.fp32_precision, which makes torch.compile fail (torch 2.14).
        torch.set_float32_matmul_precision("high")
    return found  # pyright: ignore[reportReturnType]


def _fastest(device: torch.device) -> Precision:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= TENSOR_CORES else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_is_fast_at_bf16() else "fp32"


def described(device: torch.device, precision: Precision | None = None) -> str:
    """The device in words, for a run's record: its name and, with fp32, whether matrix products are TF32.

    >>> described(torch.device("cpu"), "fp32")
    'cpu'
    """
    if device.type != "cuda":
        return str(device)
    rounded = precision == "fp32" and torch.cuda.get_device_capability(device) >= TF32
    return f"{device} ({torch.cuda.get_device_name(device)}{', fp32 products in TF32' if rounded else ''})"


def _cpu_is_fast_at_bf16() -> bool:
    # get_capabilities is public in newer torch; the older ones only have the private questions.
    if hasattr(torch.cpu, "get_capabilities"):
        can = torch.cpu.get_capabilities()
        meant_for_amx = can.get("avx512_fp16") and "Intel" in can.get("cpu_name", "")
        return bool(can.get("amx_bf16") or (can.get("avx512_bf16") and not meant_for_amx))
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """A context in which matrix products run in ``precision``; nothing changes for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])
