"""FAISS with the matrix kernels that suit this processor: ``from sslkit.fast_faiss import faiss``.

FAISS from PyPI carries an OpenBLAS that knows processors by their model. For one newer than itself it falls back to the
kernels of a Pentium 4, a quarter as fast here as those it has for AVX-512. It also takes a name from the environment,
which it reads once, when it is loaded; where FAISS is built with another library, the name does nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

VARIABLE = "OPENBLAS_CORETYPE"
# The oldest core with these instructions, by what torch finds; other processors are left to OpenBLAS.
CORES = {"AVX512": "SkylakeX", "AVX2": "Haswell"}


@contextmanager
def suitable_kernels() -> Iterator[None]:
    """Name the core to an OpenBLAS that is loaded meanwhile, unless the user has named one."""
    core = CORES.get(torch.backends.cpu.get_cpu_capability())
    if core is None or VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = core
    try:
        yield
    finally:
        del os.environ[VARIABLE]  # NumPy in processes started from here has an OpenBLAS of its own, which knows better


with suitable_kernels():
    import faiss

__all__ = ["faiss"]
