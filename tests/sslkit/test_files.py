"""Files that are written whole or not at all: on a full disk, and after kills."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sslkit.errors import SslkitError
from sslkit.files import append_line, atomic, open_regular, special, special_files, sweep
from sslkit.training import checkpoint

DEAD = 4_000_000  # above the largest process id of Linux


class Full:
    """A file on a disk that takes so many bytes."""

    def __init__(self, handle, room: int):
        self.handle, self.room = handle, room

    def write(self, data) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.handle.write(data)

    def __getattr__(self, name: str):
        return getattr(self.handle, name)


@pytest.mark.parametrize("save", [lambda h: torch.save(torch.zeros(5000), h), lambda h: np.savez(h, a=np.zeros(5000))])
def test_a_full_disk_names_the_file_whatever_the_library_makes_of_it(tmp_path: Path, save) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    words = rf"cannot write {path}: No space left on device \(.*\); free some space"
    with pytest.raises(SslkitError, match=words), atomic(path) as handle:
        save(Full(handle, 4000))
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np, torch
from sslkit.files import append_line, atomic
from sslkit.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # a real failure in write(2)
def array(path):
    with atomic(path) as handle:
        np.save(handle, np.zeros(1_000_000))
def log(path):
    path.write_bytes(b"x" * 999_999 + b"\\n")
    append_line(path, {"step": 1})
for write in (lambda path: checkpoint.save(path, {"a": torch.zeros(1_000_000)}), array, log):
    try:
        write(Path(sys.argv[1]))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_failing_write_says_how_much_is_missing_where_that_is_known(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path / "file"], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert all(line.startswith(f"SslkitError cannot write {tmp_path / 'file'}: ") for line in lines), done
    assert len(lines) == 3
    assert (tmp_path / "file").stat().st_size == 1_000_000  # the torn line was taken back


def test_the_missing_megabytes_are_what_a_file_takes_beyond_the_free_space(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100_000})())
    path, words = tmp_path / "checkpoint.pt", r"it takes 8\.1 MB, 8\.0 MB of them are missing"
    with pytest.raises(SslkitError, match=words), atomic(path, size=8_100_000) as handle:
        torch.save(torch.zeros(2_000_000), Full(handle, 1))
    state = {"a": torch.zeros(1000)}
    checkpoint.save(path, state)
    assert torch.load(path)["a"].shape == (1000,)


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    mine, other = tmp_path / f".a[1].pt.{DEAD}.tmp", tmp_path / f".b.pt.{DEAD}.tmp"
    living = [tmp_path / f".a[1].pt.{process}.tmp" for process in (os.getpid(), os.getppid(), 1)]
    foreign = [tmp_path / name for name in (".a[1].pt.tmp", ".a[1].pt.x.tmp", "a.1.tmp", f".a[1].pt.{DEAD}.partial")]
    for path in (mine, other, *living[1:], *foreign):
        path.touch()
    with atomic(tmp_path / "a[1].pt") as handle:
        handle.write(b"whole")
    assert {each.name for each in tmp_path.iterdir()} == {"a[1].pt", *(p.name for p in (other, *living[1:], *foreign))}
    sweep(tmp_path.rglob(".*.tmp"))
    assert not other.exists()
    assert all(path.exists() for path in (*living[1:], *foreign))


def test_a_line_is_added(tmp_path: Path) -> None:
    append_line(tmp_path / "log", {"step": 1})
    append_line(tmp_path / "log", {"step": 2, "name": "é"})
    assert (tmp_path / "log").read_bytes() == b'{"step": 1}\n{"step": 2, "name": "\\u00e9"}\n'


def test_what_is_neither_a_file_nor_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    assert [special(tmp_path / name) for name in ("fifo", "gone", "device")] == [
        *("a FIFO", "a link to nothing", "a device")
    ]
    for path in (tmp_path, tmp_path / "file", tmp_path / "none", "a\0b", "x" * 5000):
        assert special(path) == ""
    assert special_files(sorted(tmp_path.iterdir())) == [
        "3 left out, being no file that can be read: device (a device), fifo (a FIFO), gone (a link to nothing)"
    ]
    assert special_files([tmp_path / "file"]) == []


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="it is a FIFO, no regular file"):
        open_regular(str(tmp_path / "fifo"))
