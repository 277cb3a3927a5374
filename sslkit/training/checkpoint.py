"""Everything needed to resume a run, in one file that is written whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from sslkit.errors import SslkitError
from sslkit.files import atomic


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts)."""
    # Through a handle: given a path, torch.save writes the file's name into the file.
    with atomic(path) as handle:
        torch.save(state, handle)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What ``save`` wrote, or None when there is no file; ``SslkitError`` for a damaged one. Never runs its code."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise SslkitError(
            f"checkpoint {path} cannot be read ({str(error).splitlines()[0]}); --force starts again"
        ) from error
