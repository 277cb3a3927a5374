"""Arrays written batch by batch that survive ``kill -9`` at any moment, and appear whole or not at all.

Rows go into hidden files next to the final ones by plain positional writes: a memory map would count every page it
touched as memory of the process. A file of marks, one byte per batch, says what is on disk; a mark is written after
the batch's rows are synced, so a lost mark costs the time of a batch and never gives a wrong row. Batches are fixed by
their number, so a second attempt computes what the first would have.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sslkit.errors import SslkitError
from sslkit.files import atomic

KEY_BYTES = 64  # a SHA-256 in hex, in front of the marks


class PartialArrays:
    """Float32 arrays (N, ...) of one split on their way to disk.

    Args:
        files: final path of each array, all in one folder.
        shapes: of one row of each array.
        rows: N.
        batch_size: rows per batch; the last one may be smaller.
    """

    def __init__(self, files: Mapping[str, Path], shapes: Mapping[str, Sequence[int]], rows: int, batch_size: int):
        self.files, self.rows, self.batch_size = dict(files), rows, batch_size
        self.batches = -(-rows // batch_size)
        self._headers = {name: _header((rows, *shapes[name])) for name in files}
        self._row_bytes = {name: 4 * int(np.prod(shapes[name])) for name in files}
        self._marks = next(iter(self.files.values())).parent / ".progress"
        self._handles: dict[str, int] = {}

    def prepare(self, key: str) -> list[int]:
        """Create the hidden files, or keep those of an interrupted attempt with the same key; one process calls it.

        Args:
            key: hex SHA-256 of everything that the rows depend on.

        Returns:
            Numbers of the batches that are still to be computed.

        Raises:
            SslkitError: the disk is too small; found before anything is computed.
        """
        done = self._done(key)
        if done is None:
            self._marks.unlink(missing_ok=True)
            for name in self.files:
                self._create(name)
            with atomic(self._marks) as handle:
                handle.write(key.encode() + bytes(self.batches))
            done = np.zeros(self.batches, bool)
        return np.flatnonzero(~done).tolist()

    def _done(self, key: str) -> np.ndarray | None:
        """Which batches are on disk, (batches,) bool; None when there is nothing to resume."""
        content = self._marks.read_bytes() if self._marks.exists() else b""
        if content[:KEY_BYTES] != key.encode() or len(content) != KEY_BYTES + self.batches:
            return None
        done = np.frombuffer(content, np.uint8, offset=KEY_BYTES) == 1
        # A final file means that the attempt before died while renaming, with all batches done.
        for name, path in self.files.items():
            if not (self._partial(name).exists() or (done.all() and path.exists())):
                return None
        return done

    def _partial(self, name: str) -> Path:
        return self.files[name].with_name(f".{self.files[name].name}.partial")

    def _create(self, name: str) -> None:
        path, size = self._partial(name), len(self._headers[name]) + self.rows * self._row_bytes[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as handle:
            handle.write(self._headers[name])
            handle.flush()
            try:
                # Takes the space now, so that a full disk is found here and not after hours.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(handle.fileno(), 0, size)
                else:
                    handle.truncate(size)
            except OSError as error:
                path.unlink()
                raise SslkitError(
                    f"cannot write {size / 1e6:.1f} MB to {self.files[name]}: {error.strerror}; free some space"
                ) from error
            os.fsync(handle.fileno())

    def write(self, batch: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the rows of one batch; they count as done after ``commit``."""
        for name, values in arrays.items():
            if name not in self._handles:
                self._handles[name] = os.open(self._partial(name), os.O_WRONLY)
            offset = len(self._headers[name]) + batch * self.batch_size * self._row_bytes[name]
            data = memoryview(values.astype("<f4").tobytes())
            while len(data):
                written = os.pwrite(self._handles[name], data, offset)
                data, offset = data[written:], offset + written

    def commit(self, batches: Sequence[int]) -> None:
        """Mark written batches as done: rows go to disk first, then their marks."""
        for handle in self._handles.values():
            os.fsync(handle)
        marks = os.open(self._marks, os.O_WRONLY)
        try:
            for batch in batches:
                os.pwrite(marks, b"\1", KEY_BYTES + batch)
            os.fsync(marks)
        finally:
            os.close(marks)

    def close(self) -> None:
        """Close the files; every process that wrote calls it."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def finish(self) -> None:
        """Rename all arrays into place once every batch is done; one process calls it."""
        for name, path in self.files.items():
            if self._partial(name).exists():
                self._partial(name).replace(path)

    def forget(self) -> None:
        """Delete the marks once the stage is done."""
        self._marks.unlink(missing_ok=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """The bytes in front of a float32 ``.npy`` array of this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
