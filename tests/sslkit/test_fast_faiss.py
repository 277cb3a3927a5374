"""FAISS multiplies with the kernels of this processor, and nothing goes around that."""

import ctypes
import os
import re
from pathlib import Path

import pytest
import torch

import sslkit
from sslkit.fast_faiss import CORES, VARIABLE, faiss, suitable_kernels


def test_openblas_has_the_kernels_of_this_processor():
    core = CORES.get(torch.backends.cpu.get_cpu_capability())
    maps = Path("/proc/self/maps")
    loaded = set(re.findall(r"/\S*faiss\S*/libopenblas\S*", maps.read_text())) if maps.exists() else set()
    if core is None or not loaded or VARIABLE in os.environ:
        pytest.skip("no OpenBLAS of FAISS's own, or its kernels are not chosen here")
    name = ctypes.CDLL(loaded.pop()).openblas_get_corename
    name.restype = ctypes.c_char_p
    assert name().decode() == core
    assert faiss.__file__ is not None


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with suitable_kernels():
        assert os.environ.get(VARIABLE) == CORES.get(torch.backends.cpu.get_cpu_capability())
    assert VARIABLE not in os.environ


def test_a_core_that_the_user_has_named_is_kept(monkeypatch):
    monkeypatch.setenv(VARIABLE, "Nehalem")
    with suitable_kernels():
        assert os.environ[VARIABLE] == "Nehalem"
    assert os.environ[VARIABLE] == "Nehalem"


def test_faiss_is_imported_in_one_place():
    package = Path(sslkit.__file__).parent
    files = [path for room in (package, package.parent / "stages") for path in room.rglob("*.py")]
    direct = [path.name for path in files if re.search(r"^\s*(import|from) faiss", path.read_text(), re.MULTILINE)]
    assert direct == ["fast_faiss.py"]
