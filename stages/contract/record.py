"""What ``stage.json`` records: inputs, outputs, versions and cost of a stage."""

import importlib.metadata
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslkit.files import sha256
from stages.contract.integrity import RECORD

SHA256 = 64  # hexadecimal digits
RECORDED_PACKAGES = ("sslkit", "torch", "torchvision", "timm", "numpy", "webdataset", "faiss-cpu")


def fingerprints(inputs: Mapping[str, Path], relative_to: Path) -> dict[str, dict[str, str]]:
    """``{name: {path, sha256}}`` of input files; paths are relative to the run, so a moved run stays valid."""
    return {
        name: {"path": os.path.relpath(path.resolve(), relative_to.resolve()), "sha256": sha256(path)}
        for name, path in inputs.items()
    }


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The differences between the config and inputs of two records, in words; empty when there are none."""
    words = [
        f"{key} was {_shown(value_at(old['config'], key))}, now {_shown(value_at(new['config'], key))}"
        for key in sorted(leaves(old["config"]) | leaves(new["config"]))
        if value_at(old["config"], key) != value_at(new["config"], key)
    ]
    for name in sorted({*old["inputs"], *new["inputs"]}):
        was, now = old["inputs"].get(name), new["inputs"].get(name)
        if was is None or now is None or was["sha256"] != now["sha256"]:
            words.append(f"the input {name} changed")
    return "; ".join(words[:4]) + (f"; and {len(words) - 4} more" if len(words) > 4 else "")


def _shown(value: Any) -> str:
    """A value as JSON; a fingerprint shortened."""
    return json.dumps(f"{value[:8]}..." if isinstance(value, str) and len(value) == SHA256 else value)


def leaves(value: Any, prefix: str = "") -> set[str]:
    """The dotted keys of a nested mapping's values; an empty mapping is a value."""
    if isinstance(value, dict) and value:
        return set().union(*(leaves(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()))
    return {prefix}


def value_at(value: Any, key: str) -> Any:
    """The value at a dotted key of a nested mapping; None where there is none."""
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def outputs(folder: Path, digests: bool = False) -> dict[str, dict[str, Any]]:
    """``{bytes, sha256}`` of every file in a stage's folder, by relative path; without ``digests`` sha256 is None."""
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256(path) if digests else None,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD and not path.name.startswith(".")
    }


def peak_memory_mb() -> int:
    """Peak resident memory of this process so far, in MB."""
    try:
        # On Linux ru_maxrss is inherited from the parent process; the high-water mark is not.
        words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
        return int(words[0]) // 1024
    except (OSError, IndexError, ValueError):
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on, and of Python."""
    found = {"python": sys.version.split()[0]}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
