"""Kill stages at random moments, rerun them, and compare: ``python -m tests.campaign.kills --runs 30 --seed 0``.

Each run forks one command, sends SIGKILL after a random part of the time that it takes, reruns the same command, and
then wants every artifact to equal that of an undisturbed run, and no temporary file to be left.
"""

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from campaign.kinds.run_artifacts import (
    EXTRACT,
    IMPORTED,
    LINEAR,
    PREPARE,
    PRETRAIN,
    digests,
    sslkit,
    write_inputs,
)

FINETUNE = "finetune run/a --epochs 2 --workers 0 --precision fp32 --device cpu --batch-size 4"
# Steps of a training run are kept now and then, so that there is something to resume from.
STAGES = {
    "prepare": PREPARE,
    "pretrain": f"{PRETRAIN} --set train.checkpoint_minutes=1e-4",
    "extract": EXTRACT,
    "linear": LINEAR,
    "finetune": FINETUNE,
}


def forked(folder: Path, command: str) -> int:
    """Start a command in a process and a session of its own; its process id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.chdir(folder)
    sink = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1), os.dup2(sink, 2)
    code = 70
    try:
        code = sslkit(command)
    finally:
        os._exit(code)


def finished(folder: Path, command: str) -> float:
    """Run a command to its end; the seconds that it took."""
    began = time.monotonic()
    if os.waitpid(forked(folder, command), 0)[1]:
        raise SystemExit(f"{command}: {(folder / 'output.txt').read_text()}")
    return time.monotonic() - began


def litter(folder: Path) -> list[str]:
    """Hidden files below a run, its lock aside."""
    return [str(path) for path in folder.rglob(".*") if path.name != ".lock"]


def main() -> int:
    """Print a line for each run that differs, and how many were equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, wrong, killed = Random(arguments.seed), 0, 0
    for name in (*IMPORTED, "sslkit.probes.finetuning.rounds", "sslkit.probes.finetuning.prediction"):
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as temporary:
        whole, before = Path(temporary) / "whole", {}
        write_inputs(whole)
        seconds = {}
        for stage, command in STAGES.items():  # what each stage starts from, and what it makes
            before[stage] = Path(temporary) / stage
            shutil.copytree(whole, before[stage])
            seconds[stage] = finished(whole, command)
        wanted = digests(whole / "run")
        for number in range(arguments.runs):
            stage = [*STAGES][number % len(STAGES)]
            place = Path(temporary) / "place"
            shutil.copytree(before[stage], place)
            pid, delay = forked(place, STAGES[stage]), draw.uniform(0, 0.6 * seconds[stage])
            time.sleep(delay)
            os.killpg(pid, signal.SIGKILL) if os.waitpid(pid, os.WNOHANG) == (0, 0) else None
            died = (place / "run").exists() and os.WIFSIGNALED(_status(pid))
            killed += died
            finished(place, STAGES[stage])
            found = digests(place / "run")
            differs = [name for name, digest in found.items() if wanted.get(name) != digest]
            left = litter(place / "run")
            if differs or left:
                wrong += 1
                print(f"{number} {stage}, killed after {delay:.2f} s: differs {differs}, left {left}", flush=True)
            shutil.rmtree(place)
    print(
        f"{arguments.runs} runs, {killed} of them killed in the middle, {arguments.runs - wrong} equal without litter"
    )
    return int(wrong > 0)


def _status(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:  # it had ended before
        return 0


if __name__ == "__main__":
    sys.exit(main())
