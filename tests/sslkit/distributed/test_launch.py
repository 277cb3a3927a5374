"""Which process this is, from the variables of torchrun and of SLURM."""

import doctest

import pytest

from sslkit.distributed import launch
from sslkit.errors import UsageError

# What SLURM 22.05 sets in the third of three tasks on two nodes, and in a batch script of the same job.
JOB = {"SLURM_JOB_ID": "812", "SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
STEP = JOB | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_STEP_NODELIST": "gpu[04,11]",
    "SLURM_PROCID": "2",
    "SLURM_NODEID": "1",
}


def adopted(environment: dict[str, str]) -> dict[str, str]:
    """What is added."""
    after = dict(environment)
    launch.adopt_slurm(after)
    assert environment.items() <= after.items()
    return {key: value for key, value in after.items() if key not in environment}


def test_examples_run():
    assert doctest.testmod(launch).failed == 0


def test_a_task_of_a_step_gets_the_variables_of_torchrun():
    made = adopted(STEP)
    assert made == {
        "RANK": "2",
        "WORLD_SIZE": "3",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "gpu04",
        "MASTER_PORT": str(20_000 + 101 * 812 % 12_000),
    }
    assert adopted({**STEP, "SLURM_NODEID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}) == made | {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
    }


def test_ports_of_neighbouring_jobs_and_steps_differ():
    ports = [
        adopted({**STEP, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})["MASTER_PORT"]
        for job in range(812, 832)
        for step in range(5)
    ]
    assert len(set(ports)) == len(ports)


def test_a_master_that_is_set_wins():
    given = {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "4000"}
    after = {**STEP, **given}
    launch.adopt_slurm(after)
    assert given.items() <= after.items()
    assert after["WORLD_SIZE"] == "3"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        JOB,  # a batch script, which has no step
        {key: value for key, value in STEP.items() if key != "SLURM_PROCID"},  # the shell of salloc
        {**STEP, "SLURM_STEP_ID": str(0xFFFFFFFA)},  # the same where it is an interactive step
        {**STEP, "SLURM_STEP_ID": str(0xFFFFFFFB)},  # a batch script as a step
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},  # srun -n 1
        {**STEP, "WORLD_SIZE": "1"},  # independent tasks
        {**STEP, "WORLD_SIZE": "8", "RANK": "5"},  # torchrun under srun
    ],
)
def test_everything_else_is_left_as_it_is(environment):
    assert adopted(environment) == {}


def test_a_task_that_sees_a_single_gpu_uses_that():
    third = {**STEP, "SLURM_LOCALID": "2"}
    assert adopted({**third, "CUDA_VISIBLE_DEVICES": "0,1,2,3"})["LOCAL_RANK"] == "2"
    assert adopted({**third, "CUDA_VISIBLE_DEVICES": "3"})["LOCAL_RANK"] == "0"
    assert adopted({**third, "CUDA_VISIBLE_DEVICES": ""})["LOCAL_RANK"] == "2"


@pytest.mark.parametrize(
    ("name", "value"), [("SLURM_STEP_TASKS_PER_NODE", "2"), ("SLURM_STEP_NODELIST", ""), ("SLURM_PROCID", "two")]
)
def test_contradictions_are_one_line(name, value):
    with pytest.raises(UsageError, match=r"SLURM's variables of this step cannot be understood .* WORLD_SIZE=1"):
        adopted({**STEP, name: value})


def test_rank_and_size():
    assert launch.rank_and_size({}) == (0, 1)
    assert launch.rank_and_size({"RANK": "3"}) == (0, 1)
    assert launch.rank_and_size({"RANK": "3", "WORLD_SIZE": "4"}) == (3, 4)
    for wrong in ({"WORLD_SIZE": "4"}, {"RANK": "4", "WORLD_SIZE": "4"}, {"WORLD_SIZE": "many"}, {"WORLD_SIZE": "0"}):
        with pytest.raises(UsageError, match="expected a rank below the size"):
            launch.rank_and_size(wrong)


def test_one_process_forgets_the_others():
    after = {**STEP, "PATH": "/bin"}
    launch.adopt_slurm(after)
    launch.forget_others(after)
    assert after == {**STEP, "PATH": "/bin"}
