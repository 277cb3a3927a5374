"""Writing files whole or not at all, the digests of what they hold, and what is no regular file."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sslkit.errors import SslkitError, some_of

SURROGATES = re.compile("[\ud800-\udfff]")  # what Python makes of bytes in a file name that are not UTF-8
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")  # `.NAME.PID.tmp`
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SETTLED_NS = 100_000_000  # a file that was written this recently may change again without a later time stamp
_digests: dict[tuple[str, int, int, int], str] = {}  # by path, inode, size and time of the last change


@contextmanager
def atomic(path: Path, mode: str = "wb", size: int | None = None) -> Iterator[IO[Any]]:
    """Open a temporary file next to ``path``, synced and renamed to ``path`` when the block ends without an error.

    If the block raises (a full disk, a signal), the temporary file is removed and ``path`` is left as it was. Text is
    UTF-8. What a killed process left of an earlier attempt at the same file is removed.

    Args:
        path: the file.
        mode: ``"w"`` or ``"wb"``.
        size: about how many bytes will be written, where it is known; for the message when the disk is full.

    Raises:
        SslkitError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    sweep(path.parent.glob(f".{_literally(path.name)}.*.tmp"))
    try:
        with saying_when_full(path, temporary, size):
            with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _literally(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def sweep(paths: Iterable[Path]) -> None:
    """Remove temporary files of ``atomic`` whose process is gone; other files stay."""
    for path in paths:
        found = TEMPORARY.fullmatch(path.name)
        if found and not _alive(int(found[1])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def saying_when_full(path: Path, written_to: Path | None = None, size: int | None = None) -> Iterator[None]:
    """A block that writes ``path``: a full disk becomes one line that names the file and says what is missing.

    Libraries hide the reason: torch raises a ``RuntimeError`` while it handles it, numpy an ``OSError`` without number.

    Raises:
        SslkitError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, OSError):
            reason = reason.__cause__ or reason.__context__
        cut = isinstance(reason, OSError) and reason.errno is None and "requested and" in str(reason)
        if not isinstance(reason, OSError) or not (cut or reason.errno in FULL):
            raise
        why = os.strerror(errno.ENOSPC if reason.errno is None else reason.errno)
        more = _missing(path, written_to or path, size)
        raise SslkitError(
            f"cannot write {path}: {why} ({more}); free some space, then rerun the same command"
        ) from error


def _missing(path: Path, written_to: Path, size: int | None) -> str:
    """How much space is missing, as far as it is known; a file that is replaced needs about as much as before."""
    written = written_to.stat().st_size if written_to.exists() else 0
    if size is None and path != written_to and path.exists():
        size = path.stat().st_size
    free = shutil.disk_usage(path.parent).free
    if size is None or size <= written + free:
        return f"{_megabytes(written)} were written, {_megabytes(free)} are free"
    return f"it takes {_megabytes(size)}, {_megabytes(size - written - free)} of them are missing"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with atomic(path, "w") as handle:
        json.dump(value, handle, indent=2)
        handle.write("\n")


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add an object to a file of JSON lines; a line that the disk cannot take is taken back."""
    before = path.stat().st_size if path.exists() else 0
    with saying_when_full(path, path):
        try:
            with path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(value) + "\n")
        except OSError:
            os.truncate(path, before)
            raise


def open_regular(path: str) -> int:
    """A descriptor of a file that is to be read, to be closed by the caller.

    Raises:
        OSError: it is no regular file, which would block or have no end, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which does not wait for the writer of a FIFO
    except OSError:
        check_regular(Path(path))  # knows a better reason for a socket
        raise
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"it is {kind_of_file(mode)}, no regular file")
    return descriptor


def check_regular(path: Path) -> None:
    """Refuse a FIFO, a socket, a device or a folder.

    Raises:
        OSError: it is no regular file, or does not exist.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {kind_of_file(mode)}, no regular file")


def kind_of_file(mode: int) -> str:
    """What to call something on a disk by its mode: ``a FIFO``, ``a device`` ...; ``a file`` if it is one."""
    tests = (
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISDIR, "a folder"),
    )
    return next((words for test, words in tests if test(mode)), "a file")


def special(path: str | Path) -> str:
    """What a path is that is neither a file nor a folder, such as ``a FIFO``; empty for other paths."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  for text that is no path as well
    except FileNotFoundError:
        return "a link to nothing" if os.path.islink(path) else ""  # noqa: PTH114
    except (OSError, ValueError):  # too long for a path, a circle of links, a byte of 0
        return ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else kind_of_file(mode)


def special_files(paths: Iterable[Path]) -> list[str]:
    """A remark on those of some paths that are neither files nor folders; none if there are none."""
    found = [f"{path.name} ({kind})" for path in paths if (kind := special(path))]
    if not found:
        return []
    return [f"{len(found)} left out, being no file that can be read: {some_of(found, 3)}"]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes; read once per process as long as the file does not change."""
    about = path.stat()
    key = (str(path.resolve()), about.st_ino, about.st_size, about.st_mtime_ns)
    if key not in _digests:
        digest = hashlib.sha256()
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
        if time.time_ns() - about.st_mtime_ns < SETTLED_NS:
            return digest.hexdigest()
        _digests[key] = digest.hexdigest()
    return _digests[key]


def remember_sha256(path: Path, digest: str) -> None:
    """Take the digest of a file that was computed while it was written, so that it is not read again."""
    about = path.stat()
    _digests[str(path.resolve()), about.st_ino, about.st_size, about.st_mtime_ns] = digest


def printable(text: str) -> str:
    """Text that every encoding of Unicode takes: bytes of a file name that are not UTF-8 are read as Latin-1.

    >>> printable(bytes([99, 97, 102, 233]).decode(errors="surrogateescape"))
    'café'
    """
    return SURROGATES.sub(lambda found: chr(code) if 0x80 <= (code := ord(found[0]) - 0xDC00) <= 0xFF else "?", text)
