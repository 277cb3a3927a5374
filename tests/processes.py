"""Processes of their own that start in milliseconds: a server imports everything once, and they are forked from it.

Each can be killed, waits for nobody and has the exit code, the output and the state of a process that was started anew,
of which importing torch alone would take seconds. The server has no threads, and makes no use of autograd.
"""

import atexit
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

PRELOAD = [
    "timm",
    "stages.cli",
    "stages.inputs.training",
    "sslkit.training.loop",
    "sslkit.training.monitor",
    "sslkit.data.prepare.packing",
    "sslkit.probes.features.extraction",
    "sslkit.probes.classify.knn",
]
SERVE = "import sys; sys.path[:] = {path}; import processes; processes.serve({descriptor})"
NUMBER = 4  # bytes of a number that the server and a process tell each other
PAUSE = 0.005  # seconds between two looks at something: who looks without a pause takes the time of the other thread


class Process:
    """A function that runs in a process of its own, with the part of ``subprocess.Popen`` that tests need."""

    def __init__(self, function: Callable[..., object], *arguments: object, new_session: bool = False, **environment):
        self.output = [tempfile.TemporaryFile("w+", errors="surrogateescape") for _ in range(2)]  # noqa: SIM115
        self.returncode: int | None = None
        state = {"cwd": str(Path.cwd()), "environment": {**os.environ, **environment}, "new_session": new_session}
        request = pickle.dumps((function, arguments, state))
        self._reports, theirs = socket.socketpair()
        with theirs:
            handles = [theirs.fileno(), *(file.fileno() for file in self.output)]
            socket.send_fds(_server(), [len(request).to_bytes(NUMBER, "big")], handles)
            _server().sendall(request)
        self.pid = self._report()

    def _report(self, flags: int = 0) -> int:
        report = self._reports.recv(NUMBER, socket.MSG_WAITALL | flags)
        assert report, "the server has ended; its traceback is on standard error"
        return int.from_bytes(report, "big", signed=True)

    def wait(self, seconds: float = 120) -> int:
        """The exit code, or minus the number of the signal that ended it; it is killed where it takes longer."""
        if self.returncode is None:
            self._reports.settimeout(seconds)
            try:
                self.returncode = self._report()
            except (TimeoutError, BlockingIOError):
                self.send_signal(signal.SIGKILL)
                self._reports.settimeout(None)
                self.returncode = self._report()
            self._reports.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, or None where it still runs."""
        if self.returncode is None:
            try:
                self._report(socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        return self.wait()

    def wait_for(self, something: Callable[[], object]) -> None:
        """Return when there is something, or the process has ended."""
        while self.poll() is None and not something():
            threading.Event().wait(PAUSE)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def communicate(self, seconds: float = 120) -> tuple[str, str]:
        """Wait, and return what it wrote to standard output and error."""
        self.wait(seconds)
        texts = []
        for file in self.output:
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]


def sslkit(*words: object, **options) -> Process:
    """Start the command line in a process of its own."""
    return Process(_command_line, *map(str, words), **options)


def sslkit_until(step: int, act: Callable[[], object], *words: object, **options) -> Process:
    """Start the command line in a process that acts on itself as soon as it has logged a training step."""
    return Process(_command_line_until, step, act, *map(str, words), **options)


def succeed(*words: object) -> None:
    """Run the command line in a process of its own, to its end."""
    process = sslkit(*words)
    _, error = process.communicate()
    assert process.returncode == 0, error


def _command_line(*words: str) -> None:
    from stages import cli

    sys.argv = ["sslkit", *words]
    cli.main()


def _command_line_until(step: int, act: Callable[[], object], *words: str) -> None:
    from sslkit.training.loop import Trainer

    Trainer._log = log_and_act(step, act)
    _command_line(*words)


def log_and_act(step: int, act: Callable[[], object]) -> Callable[..., None]:
    """A ``Trainer._log`` that acts after it has logged this step: whoever sends a signal from outside may be late."""
    from sslkit.training.loop import Trainer

    log = Trainer._log

    def logged(trainer: Trainer, *arguments) -> None:
        log(trainer, *arguments)
        if trainer.step == step:
            act()

    return logged


@cache
def _server() -> socket.socket:
    """The connection to the server, which ends when nobody has the other end of it."""
    ours, theirs = socket.socketpair()
    with theirs:
        code = SERVE.format(path=sys.path, descriptor=theirs.fileno())
        server = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], start_new_session=True)
    atexit.register(lambda: (ours.close(), server.wait()))
    return ours


def serve(descriptor: int) -> None:
    """Fork a process for each request until the other end of the connection is closed."""
    for name in PRELOAD:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=descriptor) as connection:
        while True:
            length, handles, _, _ = socket.recv_fds(connection, NUMBER, 3)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not length:
                return
            request = connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
            if os.fork() == 0:
                break
            for handle in handles:
                os.close(handle)
    _report_on_child(handles[0])
    function, arguments, state = pickle.loads(request)
    with Path(os.devnull).open() as nothing:
        for number, handle in enumerate([nothing.fileno(), *handles[1:]]):
            os.dup2(handle, number)
    if state["new_session"]:
        os.setsid()
    os.chdir(state["cwd"])
    os.environ.clear()
    os.environ.update(state["environment"])
    function(*arguments)


def _report_on_child(handle: int) -> None:
    """Fork again; the parent says which process that is and how it ended, and leaves, and the child goes on."""
    child = os.fork()
    if child:
        with socket.socket(fileno=handle) as reports:
            reports.sendall(child.to_bytes(NUMBER, "big", signed=True))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            reports.sendall(code.to_bytes(NUMBER, "big", signed=True))
        os._exit(0)
    os.close(handle)
    # Who runs the tests in the background may ignore SIGINT, which the server has inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
