"""Results to standard output, remarks to standard error."""

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
PLAIN = {"±": "+-", "…": "...", "·": "-", "→": "->"}  # for terminals that have ASCII only


def fit_any_terminal() -> None:
    """Let standard output and error take every text, in ASCII terminals, and be there where a service closed them."""
    codecs.register_error("plain", _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  open as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[bytes, int]:
    """What stands for characters that the stream's encoding lacks: bytes of a file name as Latin-1, or plain signs."""
    from sslkit.files import printable  # which --help does not wait for

    assert isinstance(error, UnicodeEncodeError)
    text = "".join(PLAIN.get(c, printable(c)) for c in error.object[error.start : error.end])
    return text.encode(error.encoding, "replace"), error.end


def say(message: str) -> None:
    """A log line, on standard error so that results can be piped."""
    print(shown(message), file=sys.stderr, flush=True)


def put(lines: Iterable[str]) -> None:
    """Lines for a person, on standard output."""
    print("\n".join(map(shown, lines)))


def shown(text: str) -> str:
    r"""Text as a terminal may show it: a name of a file can hold line breaks, and commands that colour or erase.

    >>> print(shown("a" + chr(27) + "[2Jb"))
    a\x1b[2Jb
    """
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def show(results: Mapping[str, Any], lines: Sequence[str], as_json: bool) -> None:
    """Print a stage's results: one JSON object, or the lines a person reads.

    Args:
        results: what ``perform`` returned.
        lines: what a person reads; "up to date" comes before them when nothing had to be done.
        as_json: ``--json``.
    """
    if as_json:
        print(json.dumps(results))
        return
    if results.get("up_to_date"):
        stale = results.get("stale")
        say(f"done, but its inputs are stale: {', '.join(stale)} (see `sslkit status`)" if stale else "up to date")
    put(lines)


def table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a text table: first row is the header, columns are padded, numbers are right-aligned.

    >>> table([["k", "top1"], [10, 51.5]])
    ['k   top1', '10  51.5']
    """
    text = [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(len(text[0]))]
    numeric = [all(isinstance(row[i], int | float) for row in rows[1:]) for i in range(len(text[0]))]
    return [
        "  ".join(c.rjust(w) if n and r else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)).rstrip()
        for r, row in enumerate(text)
    ]
