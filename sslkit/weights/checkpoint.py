"""A checkpoint file as plain tensors and plain data, and the description next to it. No code in a file is ever run."""

import argparse
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sslkit.artifacts import DamagedFile, check_zip, read_json
from sslkit.errors import SslkitError
from sslkit.files import printable

DEEPEST = 16  # mappings in each other; published checkpoints have up to 5
# What published training checkpoints hold next to tensors: plain data, whose construction runs no code.
HARMLESS = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]

# What lies where weights should, by its first bytes.
NOT_WEIGHTS = {
    b"version https://git-lfs": "it is a pointer of Git LFS; fetch the file that it stands for with `git lfs pull`",
    b"<": "it is a web page, perhaps a login or an error; download the file again",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        name: what messages call it.
        tree: nested mappings of tensors and plain data.
        about: its own description: the JSON file next to it (``encoder.json``, ``config.json``), and plain values at
            the top of the tree.
    """

    name: str
    tree: Any
    about: Mapping[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by dotted key; an optimizer's state, keyed by numbers, is not a model and is left out."""
        return tensors_in(self.tree) if isinstance(self.tree, Mapping) else {}


def open_checkpoint(path: Path) -> Checkpoint:
    """A file with its description.

    Raises:
        SslkitError: the file cannot be read, or holds objects that only running code could build.
    """
    tree = read_checkpoint(path)
    about = {}
    beside = [path.with_suffix(".json"), path.parent / "config.json"]
    beside += [path.parent / "encoder.json"] if path.name == "checkpoint.pt" else []
    for file in beside:
        try:
            found = read_json(file)
            about |= found if isinstance(found, dict) else {}
        except (DamagedFile, OSError):
            continue  # another program's file may have the same name
    if isinstance(tree, Mapping):
        about |= {k: v for k, v in tree.items() if isinstance(k, str) and not isinstance(v, Tensor | list)}
    return Checkpoint(str(path), tree, about)


def read_checkpoint(path: Path) -> Any:
    """The tree of tensors in a torch or safetensors file, on the CPU. Code in the file is never run.

    Raises:
        SslkitError: the file cannot be read, or holds objects that only running code could build.
    """
    if not path.is_file():
        raise SslkitError(f"no checkpoint at {path}: --weights takes a FILE, a RUN, timm:NAME, or random, or pixels")
    with path.open("rb") as handle:
        start = handle.read(64).lstrip()
    for sign, what in NOT_WEIGHTS.items():
        if start.startswith(sign):
            raise SslkitError(f"{path} holds no weights: {what}")
    if _is_program(path):
        raise SslkitError(f"{path} is a program, not weights, and code in a file is never run: use encoder.safetensors")
    try:
        if path.suffix == ".safetensors":
            # safetensors maps the file, but only opens paths in UTF-8.
            named = str(path) == printable(str(path))
            return safetensors.torch.load_file(path) if named else safetensors.torch.load(path.read_bytes())
        check_zip(path)
        with torch.serialization.safe_globals(HARMLESS):
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page; the name of what the file asked for is in it.
        named = re.search(r"(?:GLOBAL|class|function) [`'\"]?([\w.]+)", str(error))
        what = f"asks for {named.group(1)}" if named and "." in named.group(1) else "is not a plain checkpoint"
        raise SslkitError(
            f"{path} {what}: only tensors and plain data are loaded, code in a file is never run; "
            "save the model's state_dict() alone and use that file"
        ) from error
    except (safetensors.SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise SslkitError(f"{path} is not a readable checkpoint; it may be incomplete ({why})") from error
    if _depth(tree) > DEEPEST:
        raise SslkitError(f"{path} is no checkpoint: its mappings are nested over {DEEPEST} deep, or in themselves")
    return tree


def tensors_in(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    """See ``Checkpoint.tensors``."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{key}"] = value
        elif isinstance(value, Mapping) and all(isinstance(k, str) for k in value) and "param_groups" not in value:
            found |= tensors_in(value, f"{prefix}{key}.")
    return found


def _is_program(path: Path) -> bool:
    """Whether a file is an exported graph, of TorchScript or ONNX."""
    if path.suffix == ".onnx":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _depth(tree: Any) -> int:
    """How deep mappings are nested, up to one more than allowed."""
    level, depth = [tree], 0
    while level and depth <= DEEPEST:
        # A structure that contains itself has no end, and one that repeats itself doubles at every level.
        unique = {id(each): each for each in level if isinstance(each, Mapping)}
        level = [value for each in unique.values() for value in each.values()]
        depth += bool(unique)
    return depth
