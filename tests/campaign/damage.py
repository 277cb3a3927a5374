"""Damage that kinds share: of bytes, of JSON-like values, and odd files in a folder."""

import copy
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

FIELDS = (0, 1, 0x7F, 0x80, 0xFF)
VALUES: tuple[Any, ...] = (
    *(None, True, "", "text", "5", [], {}, [[]], {"a": {"b": []}}, 0, -1, 1.5, 10**9, 10**30, -(10**18)),
    *(float("nan"), float("inf"), "x" * 10_000, "\x00", "\ud800", "../../outside", "/", ["a", 1, None]),
)


def _flip(data: bytearray, draw: Random) -> str:
    for _ in range(count := draw.choice((1, 1, 1, 8, 64))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return f"{count} bits flipped"


def _cut(data: bytearray, draw: Random) -> str:
    del data[draw.randrange(len(data)) :]
    return f"cut to {len(data)} bytes"


def _zero(data: bytearray, draw: Random) -> str:
    start, size = draw.randrange(len(data)), draw.choice((1, 16, 512, 4096))
    data[start : start + size] = bytes(len(data[start : start + size]))
    return f"{size} bytes zeroed at {start}"


def _field(data: bytearray, draw: Random) -> str:
    start, size, value = draw.randrange(min(len(data), 96)), draw.choice((1, 2, 4)), draw.choice(FIELDS)
    data[start : start + size] = bytes([value]) * len(data[start : start + size])
    return f"{size} bytes of the header at {start} set to {value}"


def _swap(data: bytearray, draw: Random) -> str:
    first, second = (draw.randrange(len(data)) for _ in range(2))
    data[first], data[second] = data[second], data[first]
    return f"bytes {first} and {second} swapped"


def _repeat(data: bytearray, draw: Random) -> str:
    start, size = draw.randrange(len(data)), draw.choice((1, 64, 512))
    data[start:start] = data[start : start + size]
    return f"{size} bytes at {start} repeated"


def _insert(data: bytearray, draw: Random) -> str:
    start = draw.randrange(len(data) + 1)
    data[start:start] = draw.randbytes(draw.choice((1, 3, 512)))
    return f"noise inserted at {start}"


def _magic(data: bytearray, draw: Random) -> str:
    data[:4] = draw.choice((b"\0\0\0\0", b"PK\3\4", b"\x89PNG", b"\xff\xd8\xff\xe0", b"\x93NUM", b"RIFF", b"GIF8"))
    return "another file's first bytes"


def _noise(data: bytearray, draw: Random) -> str:
    data[:] = draw.randbytes(draw.choice((1, 100, 5000)))
    return f"{len(data)} bytes of noise"


def _append(data: bytearray, draw: Random) -> str:
    data += draw.randbytes(draw.choice((1, 100, 5000)))
    return "noise appended"


def _empty(data: bytearray, draw: Random) -> str:
    data.clear()
    return "empty"


BYTES: dict[Callable[[bytearray, Random], str], int] = {
    _flip: 6, _cut: 3, _zero: 3, _field: 3, _swap: 1, _repeat: 2, _insert: 2,
    _magic: 1, _noise: 1, _append: 1, _empty: 1,
}  # fmt: skip


def damaged(data: bytes, draw: Random) -> tuple[bytes, str]:
    """(damaged bytes, what was done)."""
    way = draw.choices([*BYTES], [*BYTES.values()])[0]
    changed = bytearray(data)
    words = way(changed, draw) if data else _noise(changed, draw)
    return bytes(changed), words


def damage_file(path: Path, draw: Random) -> str:
    """Damage a file's bytes in place; returns what was done."""
    content, words = damaged(path.read_bytes(), draw)
    path.write_bytes(content)
    return f"{path.name}: {words}"


def damage_value(value: Any, draw: Random) -> tuple[Any, str]:
    """(a JSON-like value with one of its parts replaced, removed or added, what was done)."""
    changed: Any = copy.deepcopy({"": value})
    parent, key, path = changed, "", ""
    while isinstance(parent[key], dict | list) and parent[key] and draw.random() < 0.8:
        parent = parent[key]
        key = draw.choice([*parent]) if isinstance(parent, dict) else draw.randrange(len(parent))
        path += f".{key}"
    ways = ["replaced", "replaced", "replaced", *(["removed", "added"] if path else [])]
    way = draw.choice(ways)
    new = draw.choice(VALUES)
    if way == "removed":
        del parent[key]
    elif way == "replaced":
        parent[key] = new
    elif isinstance(parent, dict):
        parent[draw.choice(("extra", "", "0"))] = new
    else:
        parent.append(new)
    return changed[""], f"{path or 'all'} {way}" + ("" if way == "removed" else f" ({str(new)[:20]!r})")


def odd_file(path: Path, draw: Random) -> str:
    """Put something at a path that is no regular file, or cannot be read; returns what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    way = draw.choice(
        ("a FIFO", "a socket", "a folder", "a loop", "a dangling link", "a circle", "/dev/zero", "/dev/full")
    )
    if way == "a FIFO":
        os.mkfifo(path)
    elif way == "a socket":
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path has at most 108 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(here)
    elif way == "a folder":
        path.mkdir()
    elif way == "a loop":
        path.symlink_to(path.name)
    elif way == "a circle":
        path.symlink_to("..")
    else:
        path.symlink_to("nowhere" if way == "a dangling link" else way)
    return f"{path.name} is {way}"
