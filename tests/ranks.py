"""Functions run in several processes that know each other, as torchrun or srun would start them, but quickly."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from processes import Process

GROUPS = 6  # that one process may be in, one after the other


def start(function: Callable[..., None], size: int, *arguments: object, **environment: str) -> list[Process]:
    """Start ``function(*arguments)`` in several processes; what they print goes to ``rank-N.txt`` in a folder.

    Args:
        function: of a module of the tests; it finds its rank in the environment.
        size: number of processes.
        arguments: of the function. The first is the folder for the output.
        environment: more variables.
    """
    shared = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "PORTS": " ".join(free_ports(GROUPS)),
    }
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **environment} for rank in range(size)]
    return [Process(_run, function, arguments, **each) for each in ranks]


def free_ports(count: int = 1) -> list[str]:
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(each.getsockname()[1]) for each in servers]


def next_group() -> None:
    """Let the next group of this process meet at another port: the server of the one before may still be there."""
    port, _, rest = os.environ["PORTS"].partition(" ")
    os.environ.update(MASTER_PORT=port, PORTS=rest)


def take_one_thread() -> None:
    """Compute with one thread in a group too, however many cores there are: bytes may depend on the number."""
    from sslkit.distributed import process_group

    process_group.cores = lambda: 1


def _run(function: Callable[..., None], arguments: tuple) -> None:
    path = Path(str(arguments[0])) / f"rank-{os.environ['RANK']}.txt"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    next_group()
    take_one_thread()
    function(*arguments)


def exit_codes(processes: list[Process], seconds: float = 120) -> list[int | None]:
    """How the processes ended; where one takes longer than that, it is killed."""
    for process in processes:
        process.communicate(seconds)
    return [process.returncode for process in processes]


def said(folder: Path, size: int) -> list[str]:
    """What each process has printed."""
    return [(folder / f"rank-{rank}.txt").read_text() for rank in range(size)]
