"""Forked processes are like those that are started anew: output, exit code, signals, folder and environment."""

import os
import signal
import sys
import threading

import processes
from processes import Process


def talk(word: str) -> None:
    print(word, os.getcwd(), os.environ["WORD"])  # noqa: PTH109
    print(word, file=sys.stderr)
    sys.exit(7)


def fail() -> None:
    raise ValueError("no")


def hang() -> None:
    print("hangs", flush=True)
    threading.Event().wait()


def lead() -> None:
    assert os.getsid(0) == os.getpid()


def test_what_a_process_says_and_how_it_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talking, failing, leading = Process(talk, "a", WORD="b"), Process(fail), Process(lead, new_session=True)
    assert talking.communicate() == (f"a {tmp_path} b\n", "a\n")
    assert talking.returncode == 7
    assert failing.communicate()[1].endswith("ValueError: no\n")
    assert failing.returncode == 1
    assert leading.communicate() == ("", "")
    assert leading.returncode == 0


def test_a_signal_ends_it_and_so_does_patience():
    first, second, third = (Process(hang) for _ in range(3))
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate()
    second.send_signal(signal.SIGKILL)
    second.communicate()
    third.communicate(seconds=0.1)
    assert [each.returncode for each in (first, second, third)] == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]


def test_the_command_line():
    process = processes.sslkit("knn")
    assert process.communicate() == ("", "sslkit: Missing argument 'RUN' (see `sslkit knn --help`)\n")
    assert process.returncode == 2
