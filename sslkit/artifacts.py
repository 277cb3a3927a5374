"""Files that a program wrote and another reads: JSON of a stated shape, bytes of a recorded digest.

A disk, a copy or an editor may have changed them in between. Damage is said in one line that names the file.
"""

import json
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslkit.errors import SslkitError
from sslkit.files import sha256

Shape = Any  # see ``mismatch``
NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    None: "null",
}


class DamagedFile(SslkitError):
    """A file does not hold what was written to it.

    Attributes:
        path: the file.
        why: what is wrong with it.
    """

    def __init__(self, path: Path, why: str):
        super().__init__(f"{path} is damaged: {why}")
        self.path, self.why = path, why

    def __reduce__(self):
        return type(self), (self.path, self.why)  # it may come from a worker process


def is_there(path: Path) -> bool:
    """Whether a file exists.

    Raises:
        DamagedFile: something else is there, which may have no end, such as a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DamagedFile(path, "it is a link to a file that does not exist") from error
        return False
    except (OSError, ValueError) as error:
        raise DamagedFile(path, str(error)) from error
    if not stat.S_ISREG(mode):
        raise DamagedFile(path, "it is not a regular file")
    return True


def read_text(path: Path) -> str:
    """The UTF-8 text in a file.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is not UTF-8.
    """
    is_there(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFile(path, f"it is not UTF-8 text (byte {error.start})") from error


def read_json(path: Path, shape: Shape = dict) -> Any:
    """The JSON value in a file.

    Args:
        path: the file.
        shape: what it must hold; see ``mismatch``.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it does not hold that.
    """
    return _parsed(path, read_text(path), shape)


def read_rows(path: Path, shape: Shape = dict) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; empty if there is no file.

    A last line without its newline is still being written, and is left out.

    Raises:
        DamagedFile: a line does not hold an object of that shape.
    """
    lines = read_text(path).split("\n")[:-1] if is_there(path) else []
    return [_parsed(path, line, shape, f"line {number}: ") for number, line in enumerate(lines, 1)]


def _parsed(path: Path, text: str, shape: Shape, where: str = "") -> Any:
    if not text.strip():
        raise DamagedFile(path, f"{where}it is empty")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        ends = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        place = "it ends too early" if ends else f"it is not JSON (line {error.lineno}, column {error.colno})"
        raise DamagedFile(path, where + place) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"{where}it is not JSON ({error})") from error
    if wrong := mismatch(value, shape):
        raise DamagedFile(path, where + wrong)
    return value


def mismatch(value: Any, shape: Shape, where: str = "") -> str:
    """How a value differs from a shape, in words; empty if it does not.

    A shape is a type (a whole number is also a ``float``), ``None``, ``object`` for anything, a tuple of alternatives,
    ``[shape]`` for a list, ``{str: shape}`` for a mapping, or a mapping of the keys that must be there; ``"key?"`` may
    be missing, and others may be there too.

    >>> mismatch({"a": [1, "x"]}, {"a": [int], "b?": str})
    'a[1] is text where a whole number is expected'
    """
    if isinstance(shape, tuple):
        found = [mismatch(value, each, where) for each in shape]
        return "" if "" in found else found[0]
    if isinstance(shape, list):
        wrong = mismatch(value, list, where)
        parts = () if wrong else ((each, shape[0], f"{where}[{i}]") for i, each in enumerate(value))
    elif isinstance(shape, Mapping):
        wrong, parts = mismatch(value, dict, where), ()
        if not wrong:
            named = {str(key).removesuffix("?"): each for key, each in shape.items() if key is not str}
            gone = next((key for key in shape if key is not str and not key.endswith("?") and key not in value), "")
            wrong = f"'{f'{where}.{gone}'.lstrip('.')}' is missing" if gone else ""
            shapes = {**dict.fromkeys(value, shape[str]), **named} if str in shape else named
            parts = ((value[key], each, f"{where}.{key}".lstrip(".")) for key, each in shapes.items() if key in value)
    elif shape is object or _is(value, shape):
        return ""
    else:
        return f"{where or 'it'} is {_name(value)} where {NAMES[shape]} is expected"
    return wrong or next(filter(None, (mismatch(*part) for part in parts)), "")


def _is(value: Any, kind: Any) -> bool:
    if kind is None or isinstance(value, bool):
        return value is None if kind is None else kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _name(value: Any) -> str:
    return next((words for kind, words in NAMES.items() if _is(value, kind)), type(value).__name__)


def check_digest(path: Path, digest: str) -> None:
    """Compare a file with the SHA-256 that was recorded when it was written; it is read once per process.

    Raises:
        DamagedFile: it holds other bytes.
    """
    if sha256(path) != digest:
        raise DamagedFile(path, f"its bytes are not those that were written (their SHA-256 began with {digest[:8]})")


def check_zip(path: Path) -> None:
    """Compare every member of a zip with its checksum, which torch does not; other files are left alone.

    Raises:
        DamagedFile: a member is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DamagedFile(path, str(error) or type(error).__name__) from error
    if bad is not None:
        raise DamagedFile(path, f"the checksum of {bad} is wrong")
