"""Functions run in several processes that know each other, as torchrun or srun would start them, but quickly."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

# One server imports all of this once; the processes are forked from it. It has no threads, and no use of autograd yet.
GROUPS = 6  # that one process may be in, one after the other
PRELOAD = ["timm", "stages.cli", "sslkit.training.loop", "sslkit.training.monitor", "stages.inputs.training"]


def start(function: Callable[..., None], size: int, *arguments: object, **environment: str) -> list:
    """Start ``function(*arguments)`` in several processes; what they print goes to ``rank-N.txt`` in a folder.

    Args:
        function: of a module of the tests; it finds its rank in the environment.
        size: number of processes.
        arguments: of the function. The first is the folder for the output.
        environment: more variables.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    shared = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "PORTS": " ".join(free_ports(GROUPS)),
    }
    processes = []
    for rank in range(size):
        own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **environment}
        processes.append(context.Process(target=_run, args=(function, arguments, own), daemon=True))
        processes[-1].start()
    return processes


def free_ports(count: int = 1) -> list[str]:
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(each.getsockname()[1]) for each in servers]


def next_group() -> None:
    """Let the next group of this process meet at another port: the server of the one before may still be there."""
    port, _, rest = os.environ["PORTS"].partition(" ")
    os.environ.update(MASTER_PORT=port, PORTS=rest)


def _run(function: Callable[..., None], arguments: tuple, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    path = Path(str(arguments[0])) / f"rank-{environment['RANK']}.txt"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        next_group()
        function(*arguments)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        raise


def exit_codes(processes: list, seconds: float = 120) -> list[int | None]:
    """How the processes ended; None and killed where one did not."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
        process.close()
    return codes


def said(folder: Path, size: int) -> list[str]:
    """What each process has printed."""
    return [(folder / f"rank-{rank}.txt").read_text() for rank in range(size)]
