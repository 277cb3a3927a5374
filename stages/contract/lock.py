"""The lock of a run directory: one writer at a time. The kernel releases it when its process dies."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sslkit.errors import SslkitError
from sslkit.files import saying_when_full

LOCK = ".lock"
# Lock files that this process holds. A forked loader process would share the lock and keep it if it outlived a killed
# parent, so it closes its copy; that releases nothing while the parent lives.
_held: set[IO[str]] = set()


def _let_go() -> None:
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def held(path: Path, stage: str, made: Sequence[Path] | None = None) -> Iterator[None]:
    """Hold the run for writing.

    A run directory in which nothing was written is removed again.

    Args:
        path: the run.
        stage: who holds it.
        made: what may be removed when nothing is written; None: what this call creates. See ``missing``.

    Raises:
        SslkitError: another process holds it, or the directory cannot be written.
    """
    made = missing(path) if made is None else made
    with _locked(path) as handle:
        handle.truncate(0)
        with saying_when_full(path / LOCK):
            handle.write(f"process {os.getpid()} (sslkit {stage})")
            handle.flush()
        _held.add(handle)
        try:
            yield
        finally:
            _held.discard(handle)
            _take_away(path, made)


def missing(path: Path) -> list[Path]:
    """Which of the run's lock file, its directory and its parents do not exist yet, innermost first."""
    return [each for each in (path / LOCK, path, *path.parents) if not each.exists()]


def _locked(path: Path) -> IO[str]:
    """The open lock file, with the lock held."""
    while True:
        try:
            path.mkdir(parents=True, exist_ok=True)
            handle = (path / LOCK).open("a+")
        except FileExistsError as error:
            raise SslkitError(f"{path} is a file, not a folder: name a folder for the run") from error
        except OSError as error:
            raise SslkitError(f"cannot write to the run {path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            other = handle.read().strip() or "another process"
            handle.close()
            raise SslkitError(f"{path} is being written by {other}; wait for it or use another run") from error
        if os.fstat(handle.fileno()).st_nlink:
            return handle
        handle.close()  # its holder removed it between the two calls


def _take_away(path: Path, made: Sequence[Path]) -> None:
    with suppress(OSError):  # a directory that is not empty stays, and so do its parents
        if [each.name for each in path.iterdir()] == [LOCK]:
            for each in made:
                each.unlink() if each.name == LOCK else each.rmdir()


def holder(path: Path) -> str | None:
    """The stage that a live process is performing on the run now; None when nobody holds the lock."""
    try:
        handle = (path / LOCK).open("r")
    except OSError:
        return None
    with handle:
        try:
            # A shared lock, for one call only: it is granted only where there is no writer to disturb.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return handle.read().rpartition("(sslkit ")[2].rstrip(")")
        return None
