"""Reading files, and writing them whole or not at all."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SURROGATES = re.compile("[\ud800-\udfff]")  # what Python makes of bytes in a file name that are not UTF-8


@contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file next to ``path``, synced and renamed to ``path`` when the block ends without an error.

    If the block raises (a full disk, a signal), the temporary file is removed and ``path`` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with atomic(path, "w") as handle:
        json.dump(value, handle, indent=2)
        handle.write("\n")


def read_json(path: Path) -> Any:
    """The JSON value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; empty if there is no file.

    A last line without its newline is still being written, and is left out.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def printable(text: str) -> str:
    """Text that every encoding of Unicode takes: bytes of a file name that are not UTF-8 are read as Latin-1.

    >>> printable(bytes([99, 97, 102, 233]).decode(errors="surrogateescape"))
    'café'
    """
    return SURROGATES.sub(lambda found: chr(code) if 0x80 <= (code := ord(found[0]) - 0xDC00) <= 0xFF else "?", text)
