"""The log as TensorBoard events; ``metrics.jsonl`` stays the log.

Events are made from the log's rows, so they can be rebuilt at any time: a resumed run rewrites them from its log and
then adds to them, so no step appears twice.
"""

import importlib.util
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sslkit.errors import UsageError


def check_installed() -> None:
    """Raise ``UsageError`` if the package is missing: better now than after hours."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs a package that is not installed: pip install 'sslkit[tensorboard]'")


class Events:
    """Writes rows of the log as scalars, by the log's names.

    Args:
        folder: of the event file; what was in it is replaced.
        rows: of the log so far.
    """

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]):
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        for row in rows:
            self(row)
        self._writer.flush()

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Add one row at its step; values that are not numbers are left out."""
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Write what is still buffered."""
        self._writer.close()
