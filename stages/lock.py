"""The lock of a run directory: one writer at a time, and none that is dead."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sslkit.errors import SslkitError

# Lock files that this process holds. A forked loader process would share the lock and keep it for as long as it
# outlives a killed parent; it closes its copy instead, which frees nothing while the parent lives.
_held: set[IO[str]] = set()


def _let_go() -> None:
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def held(path: Path, stage: str) -> Iterator[None]:
    """Hold the run for writing; the lock is the kernel's, so it dies with the process.

    Raises:
        SslkitError: another process holds it, or the directory cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = (path / ".lock").open("a+")
    except OSError as error:
        raise SslkitError(f"cannot write to the run {path}: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            other = handle.read().strip() or "another process"
            raise SslkitError(f"{path} is being written by {other}; wait for it or use another run") from error
        handle.truncate(0)
        handle.write(f"process {os.getpid()} (sslkit {stage})")
        handle.flush()
        _held.add(handle)
        try:
            yield
        finally:
            _held.discard(handle)


def holder(path: Path) -> str | None:
    """The stage that a living process is performing on the run at ``path`` now; None when nobody holds the lock."""
    try:
        handle = (path / ".lock").open("r")
    except OSError:
        return None
    with handle:
        try:
            # A shared lock for the length of one call: it can be had only where there is no writer to disturb.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return handle.read().rpartition("(sslkit ")[2].rstrip(")")
        return None
