"""A real SLURM cluster of two nodes on this machine: its variables, and a job that is preempted in the middle."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

CLUSTER = Path(__file__).parent / "cluster.sh"
BATCH = ROOT / "stages" / "pipelines" / "slurm.sbatch"
NEEDED = ("sbatch", "slurmctld", "slurmd", "munged")
MISSING = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"no {', '.join(MISSING)} here: apt-get install slurm-wlm munge brings SLURM"
)
TWO_NODES = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0"]
PATIENCE = 240  # seconds


# The first start of the run "preempted" waits in its third step for the signal, which may take its time.
COMMAND = """
import os, signal, sys, threading
sys.path[:] = {path}
from stages import cli

if "preempted" in sys.argv and "SLURM_RESTART_COUNT" not in os.environ:
    import processes
    from sslkit.training.loop import Trainer

    came = threading.Event()

    def listen():
        honest = signal.getsignal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, lambda *words: (honest(*words), came.set()))

    for step, act in ((2, listen), (3, came.wait)):
        Trainer._log = processes.log_and_act(step, act)
cli.main()
"""


@dataclass(frozen=True)
class Cluster:
    """The cluster as a user sees it."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *words: object) -> str:
        """Standard output of a command."""
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, name: str, *words: object) -> str:
        """Number of a new job that runs words of sbatch; its log is NAME.log."""
        return self("sbatch", "--parsable", f"--output={name}.log", *words).strip()

    def state(self, job: str) -> str:
        return self("scontrol", "show", "job", job)

    def until(self, there: Callable[[], bool], name: str) -> None:
        """Wait for something that the job with this log is to do."""
        end = time.monotonic() + PATIENCE
        log = self.folder / f"{name}.log"
        while not there():
            assert time.monotonic() < end, log.read_text() if log.exists() else f"{name} has not begun"
            threading.Event().wait(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    # The path of a socket has at most 107 characters.
    folder = tmp_path_factory.mktemp("slurm")
    command = folder / "bin" / "sslkit"
    command.parent.mkdir()
    script = folder / "command.py"
    script.write_text(COMMAND.format(path=sys.path))
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}:/usr/sbin"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(ROOT)}
    try:
        words = [CLUSTER, "start", folder / "c"]
        started = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        if started.returncode and not os.environ.get("CI"):
            pytest.skip(f"SLURM is installed, but does not start here: {started.stderr}")
        assert started.returncode == 0, started.stderr
        yield Cluster(folder, {**environment, "SLURM_CONF": str(folder / "c" / "slurm.conf")})
    finally:
        subprocess.run([CLUSTER, "stop", folder / "c"], env=environment, check=True, timeout=PATIENCE)


WHO = """
import json, os
from sslkit.distributed import launch
launch.adopt_slurm(os.environ)
print(json.dumps([*launch.rank_and_size(os.environ), *(os.environ.get(name) for name in launch.VARIABLES[2:])]))
"""


def test_tasks_of_a_step_know_each_other_and_a_batch_script_is_alone(cluster):
    (cluster.folder / "who.py").write_text(WHO)
    who = f"{sys.executable} {cluster.folder / 'who.py'}"
    script = f"{who}; echo; srun --ntasks=3 --overcommit {who}; echo; srun --ntasks=1 --nodes=1 {who}"
    job = cluster.submit("who", "--nodes=2", "--ntasks=2", f"--wrap={script}")
    cluster.until(lambda: "JobState=COMPLETED" in cluster.state(job), "who")
    blocks = (cluster.folder / "who.log").read_text().split("\n\n")
    script, step, single = (
        sorted(json.loads(line) for line in block.splitlines() if line[0] == "[") for block in blocks
    )
    assert script == single == [[0, 1, None, None, None, None]]
    address, port = step[0][4:]
    assert [task[:4] for task in step] == [[0, 3, "0", "2"], [1, 3, "1", "2"], [2, 3, "0", "1"]]
    assert all(task[4:] == [address, port] for task in step)
    assert address == os.uname().nodename.partition(".")[0]


def test_a_preempted_job_is_queued_again_and_ends_like_an_undisturbed_one(cluster, shapes_run, tiny_scale):
    def submit(name: str) -> str:
        words = ["--data", shapes_run, "--recipe", "attmask", "--recipe", tiny_scale]
        words += ["--device", "cpu", "--precision", "fp32", "--workers", "0", "--set", "monitor.every_epochs=0"]
        return cluster.submit(name, *TWO_NODES, BATCH, name, *words)

    def steps(name: str) -> int:
        log = cluster.folder / name / "pretrain" / "metrics.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0

    preempted = submit("preempted")
    cluster.until(lambda: steps("preempted") >= 3, "preempted")
    cluster("scancel", "--signal=USR1", preempted)
    undisturbed = submit("undisturbed")
    cluster.until(lambda: "JobState=PENDING Reason=BeginTime" in cluster.state(preempted), "preempted")
    assert steps("preempted") == 3
    cluster("scontrol", "update", f"JobId={preempted}", "StartTime=now")  # SLURM would let two minutes pass
    for job, name in ((preempted, "preempted"), (undisturbed, "undisturbed")):
        cluster.until(lambda job=job: "JobState=COMPLETED" in cluster.state(job), name)
    log = (cluster.folder / "preempted.log").read_text()
    assert "stopped at step 3 of 10; rerun the same command to resume" in log
    assert f"job {preempted} stopped at a checkpoint; queued again" in log
    assert "resuming at step 3 of 10" in log
    assert "Traceback" not in log
    assert json.loads((cluster.folder / "preempted/pretrain/stage.json").read_text())["how"]["processes"] == 2
    first, second = (
        (cluster.folder / name / "pretrain" / "encoder.safetensors").read_bytes()
        for name in ("preempted", "undisturbed")
    )
    assert first == second


def test_a_run_that_fails_is_not_queued_again(cluster):
    job = cluster.submit("wrong", *TWO_NODES, BATCH, "nowhere", "--recipe", "attmask")
    cluster.until(lambda: "JobState=FAILED" in cluster.state(job), "wrong")
    assert "Restarts=0" in cluster.state(job)
    assert "ExitCode=1:0" in cluster.state(job)
    assert "no run directory at nowhere" in (cluster.folder / "wrong.log").read_text()
