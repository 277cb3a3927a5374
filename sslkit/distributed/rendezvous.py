"""How processes find each other. Nobody waits for ever, and whoever waits says for whom."""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from sslkit.distributed.launch import rank_and_size
from sslkit.errors import SslkitError, UsageError

SILENT = 10.0  # seconds of waiting until a line says so
POLL = 0.05
ALONE = "WORLD_SIZE=1 in the environment runs this process on its own"


@dataclass
class Meeting:
    """The place where the processes of a run meet.

    Attributes:
        task: what this process is about to do; it must be the same in all of them.
        patience: seconds to wait for the others.
        say: prints a remark.
    """

    task: str
    patience: float
    say: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.rank, self.size = rank_and_size(os.environ)
        self.host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
        if not self.host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UsageError(
                f"WORLD_SIZE is {self.size}, but MASTER_ADDR is '{self.host}' and MASTER_PORT '{port}': start the "
                f"processes with torchrun or srun; {ALONE}"
            )
        self.port = int(port)
        self._told = False

    def meet(self) -> tuple[Store, list[str]]:
        """The store that all processes share, and who they are, by rank: ``"process 2 (pid 4711 on node1)"``.

        Raises:
            SslkitError: some process did not come.
            UsageError: the processes are not about to do the same, or the address cannot be used.
        """
        # torchrun's agent serves the store, and a restarted group must not read what the one before has left there.
        serves = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        self._check_name()
        if not serves:
            self._await_server()
        try:
            store = TCPStore(self.host, self.port, None, serves, timedelta(seconds=self.patience), False)
        except RuntimeError as error:
            raise UsageError(
                f"process {self.rank} cannot {'listen' if serves else 'connect'} at {self.host}:{self.port} "
                f"({str(error).splitlines()[0]}): set MASTER_PORT to a free port"
            ) from error
        shared = PrefixStore(f"sslkit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        shared.set(f"here/{self.rank}", json.dumps([self.task, f"pid {os.getpid()} on {socket.gethostname()}"]))
        return shared, self._await_others(shared)

    def _check_name(self) -> None:
        while True:
            try:
                socket.getaddrinfo(self.host, self.port)
            except socket.gaierror as error:
                if error.errno != socket.EAI_AGAIN:
                    raise UsageError(
                        f"the host {self.host}, where the processes are to meet, has no address here "
                        f"({error.strerror}): set MASTER_ADDR to an address of the first node"
                    ) from error
                self._wait(f"an address of the host {self.host} ({error.strerror})")
            else:
                return

    def _await_server(self) -> None:
        while True:
            try:
                with socket.create_connection((self.host, self.port), timeout=self.patience):
                    return
            except OSError as error:
                self._wait(f"process 0 at {self.host}:{self.port} ({error.strerror or error})")

    def _await_others(self, store: Store) -> list[str]:
        missing = list(range(self.size))
        while missing := [rank for rank in missing if not store.check([f"here/{rank}"])]:
            self._wait(f"process {', '.join(map(str, missing))}, to meet at {self.host}:{self.port}")
        found = [json.loads(store.get(f"here/{rank}")) for rank in range(self.size)]
        for rank, (task, place) in enumerate(found):
            if task != found[0][0]:
                raise UsageError(
                    f"process 0 is to {found[0][0]}, but process {rank} ({place}) to {task}: processes of one group do "
                    f"the same; {ALONE}"
                )
        return [f"process {rank} ({place})" for rank, (_, place) in enumerate(found)]

    def _wait(self, whom: str) -> None:
        waited = time.monotonic() - self.began
        if waited > self.patience:
            raise SslkitError(
                f"process {self.rank} of 0 to {self.size - 1} has waited {waited:.0f} s for {whom}: start one process "
                f"for each rank, with srun or torchrun; {ALONE}"
            )
        if waited > SILENT and not self._told:
            self._told = True
            self.say(
                f"process {self.rank} of 0 to {self.size - 1} waits for {whom}; it gives up after "
                f"{self.patience:.0f} s. {ALONE}"
            )
        time.sleep(POLL)
