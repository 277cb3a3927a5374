"""How many processes there are and which of them this one is, from the environment that started it.

torchrun says so in variables of its own. ``srun`` starts one process per task and has other names, from which
torchrun's are made here, so that the rest of the code knows one set of names. Nothing here imports torch.
"""

import re
from collections.abc import MutableMapping

from sslkit.errors import UsageError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SPECIAL_STEPS = 0xFFFFFFF0  # SLURM numbers batch scripts and interactive shells from here: they are one process
FIRST_PORT, PORTS = 20_000, 12_000  # below those that the kernel hands out


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Add torchrun's variables to those of a SLURM step with several tasks; otherwise change nothing.

    A batch script and the shell of ``salloc`` are one process, whatever ``SLURM_NTASKS`` says: only ``srun`` makes a
    step. ``MASTER_ADDR`` and ``MASTER_PORT`` win over the step's first node and a port derived from the job; and
    ``WORLD_SIZE``, which torchrun sets, over everything: with ``WORLD_SIZE=1`` the tasks are independent.

    Raises:
        UsageError: SLURM's variables contradict each other.
    """
    if "WORLD_SIZE" in environment or not {"SLURM_STEP_ID", "SLURM_PROCID"} <= environment.keys():
        return
    try:
        step, size = int(environment["SLURM_STEP_ID"]), int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
        if step >= SPECIAL_STEPS or size == 1:
            return
        node = int(environment.get("SLURM_NODEID", "0"))
        port = FIRST_PORT + (101 * int(environment["SLURM_JOB_ID"]) + step) % PORTS
        made = {
            "RANK": str(int(environment["SLURM_PROCID"])),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": _device(environment),
            "LOCAL_WORLD_SIZE": str(tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])[node]),
            "MASTER_ADDR": environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"]),
            "MASTER_PORT": environment.get("MASTER_PORT") or str(port),
        }
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(
            f"SLURM's variables of this step cannot be understood ({type(error).__name__}: {error}); set RANK, "
            "WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or WORLD_SIZE=1 for a single process"
        ) from error
    environment.update(made)


def _device(environment: MutableMapping[str, str]) -> str:
    """The task's number on its node, or 0 where SLURM lets each task see one GPU only, as with --gpus-per-task=1."""
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return "0" if len(visible) == 1 and visible[0] else str(int(environment["SLURM_LOCALID"]))


def rank_and_size(environment: MutableMapping[str, str]) -> tuple[int, int]:
    """This process's number and the number of processes; 0 and 1 without ``WORLD_SIZE``.

    Raises:
        UsageError: they are no numbers, or do not fit each other.
    """
    size = environment.get("WORLD_SIZE", "1")
    rank = "0" if size == "1" else environment.get("RANK", "")
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise UsageError(f"RANK is '{rank}' and WORLD_SIZE '{size}' in the environment: expected a rank below the size")
    return int(rank), int(size)


def forget_others(environment: MutableMapping[str, str]) -> None:
    """Let this process count as the only one."""
    for name in VARIABLES:
        environment.pop(name, None)


def first_host(nodes: str) -> str:
    """The first host of a SLURM node list.

    >>> first_host("gpu[07-09,12],login"), first_host("one,two"), first_host("rack[2-3]n[1,4]-ib")
    ('gpu07', 'one', 'rack2n1-ib')
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ValueError(f"no host in '{nodes}'")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0])


def tasks_per_node(text: str) -> list[int]:
    """Tasks of each node.

    >>> tasks_per_node("2(x3),1")
    [2, 2, 2, 1]
    """
    counts = []
    for part in text.split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or "1")
    return counts
