"""Evaluations that a run lacks: the commands that `compare` advises do what they promise, whoever made the features."""

import shlex
import shutil
from pathlib import Path

import pytest
from conftest import write_features
from feature_blobs import blobs

from sslkit.files import write_json
from stages.contract.layout import Run
from stages.contract.lock import held


def write(run: Path, stage: str, status: str = "done", command: str = "", **facts) -> Path:
    """A stage's record; the command is that of this run with ``command`` as its options."""
    record = {"status": status, "stage": stage, "config": {}, "inputs": {}, "outputs": {}, **facts}
    if command:
        record["command"] = f"sslkit {stage} {shlex.quote(str(run))} {command}"
    write_json(Run(run).folder(stage) / "stage.json", record)
    return run


def evaluated(run: Path, *stages: str) -> Path:
    for stage in stages:
        write(run, stage, results={"top1": 30.0, "k": 20})
    return run


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A run with both expected evaluations, and nothing else."""
    return evaluated(tmp_path / "complete", "knn", "linear")


@pytest.fixture
def advice(complete: Path, sslkit):
    """What `compare` says that a run lacks, its path as RUN; empty if nothing."""

    def advised(run: Path) -> str:
        code, _, err = sslkit("compare", complete, run)
        assert code == 0, err
        found = [line for line in err.splitlines() if "not evaluated" in line]
        opening = f"note: not evaluated yet: {run} ("
        assert all(line.startswith(opening) for line in found)
        return "".join(found).removeprefix(opening).removesuffix(")").replace(str(run), "RUN")

    return advised


@pytest.fixture
def follow(advice, sslkit):
    """Run what is advised, which must succeed; then nothing is lacking."""

    def followed(run: Path) -> None:
        for command in advice(run).split("; "):
            _, *words = (word.replace("RUN", str(run)) for word in shlex.split(command))
            code, _, err = sslkit(*words)
            assert code == 0, err
        assert advice(run) == ""

    return followed


def test_features_of_another_program_are_not_extracted_again(tmp_path: Path, sslkit, advice, follow) -> None:
    run = write_features(tmp_path / "a run", blobs(40, 2, 0), blobs(20, 2, 1))
    assert sslkit("knn", run)[0] == 0
    assert shlex.split(advice(run)) == ["sslkit", "linear", "RUN"]  # quoted: its name has a space
    follow(run)
    shutil.rmtree(run / "linear")
    (run / "features" / "val" / "labels.npy").unlink()
    assert advice(run).startswith("it has neither features nor an encoder: restore the features, ")


def test_a_baseline_is_extracted_by_its_own_command(tmp_path: Path, shapes_run: Path, advice, follow) -> None:
    run, options = tmp_path / "pixels", f"--data {shapes_run} --weights pixels --image-size 4 --workers 0 --device cpu"
    write(evaluated(run, "linear"), "extract", "failed", options, config={"weights": "pixels"})
    # The recorded command of a copy would extract the features of the original.
    copy = shutil.copytree(run, tmp_path / "copy")
    original = f"sslkit extract {run} {options}"
    assert advice(copy) == f"extract its features as `{original}` did in another folder; then `sslkit knn RUN`"
    assert advice(run) == f"sslkit extract RUN {options}; sslkit knn RUN"
    follow(run)
    shutil.rmtree(run / "knn")
    assert advice(run) == "sslkit knn RUN"


def test_a_run_with_an_encoder_is_extracted_by_the_plain_command(trained_run: Path, tmp_path: Path, advice) -> None:
    run = shutil.copytree(trained_run, tmp_path / "trained")
    shutil.rmtree(run / "knn")
    assert advice(run) == "sslkit knn RUN; sslkit linear RUN"
    evaluated(run, "knn")
    shutil.rmtree(run / "features")
    assert advice(run) == "sslkit extract RUN; sslkit linear RUN"


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": {"labelled": 9}}, "its data have no labelled val"),
        ({"train": {"labelled": 9}, "val": {"labelled": 0}}, "its data have no labelled val"),
        ({"train": {"labelled": 0}, "val": {"labelled": 0}}, "its data have no labelled train and no labelled val"),
    ],
)
def test_data_without_labels_are_named_instead_of_a_command_that_fails(splits, said, tmp_path: Path, advice) -> None:
    assert advice(write(tmp_path / "run", "extract", results={"weights": "run", **splits})) == said


def test_features_that_no_probe_reads_by_itself_may_be_missing(tmp_path: Path, advice) -> None:
    run = write_features(evaluated(tmp_path / "run", "knn"), ((), ()), ((), ()))
    write(run, "extract", command="--workers 0", outputs={"features.json": 2, "train/blocks.npy": 9})
    (run / "features" / "features.json").write_text("{}")
    assert advice(run) == "sslkit linear RUN"
    (run / "features" / "val" / "cls.npy").unlink()
    (run / "pretrain").mkdir()
    (run / "pretrain" / "encoder.safetensors").touch()
    assert advice(run) == "sslkit extract RUN --workers 0; sslkit linear RUN"


EXTRACT, LINEAR = "sslkit extract RUN", "sslkit linear RUN"


@pytest.mark.parametrize(
    ("stage", "facts", "said"),
    [
        ("linear", {"status": "failed", "command": "--epochs 2"}, f"{LINEAR} --epochs 2"),
        ("linear", {"status": "interrupted", "command": "--epochs 2"}, f"{LINEAR} --epochs 2"),
        ("extract", {"status": "failed", "command": "--weights x.pth", "config": {"weights": "file"}},
         f"{EXTRACT} --weights x.pth; {LINEAR}"),
        ("extract", {"status": "running", "command": "--like a"}, f"{EXTRACT} --like a; {LINEAR}"),  # was killed
        ("pretrain", {"status": "interrupted", "command": "--recipe dino"},
         f"sslkit pretrain RUN --recipe dino; {EXTRACT}; {LINEAR}"),
        ("pretrain", {"status": "interrupted"},
         "it has neither features nor an encoder: restore the features, train by `sslkit pretrain RUN --recipe ...`, "
         f"or name an encoder by `{EXTRACT} --weights ...`; then `{LINEAR}`"),
    ],
    ids=["failed", "interrupted", "no features yet", "extract was killed", "no encoder yet", "unknown"],
)  # fmt: skip
def test_a_stage_that_was_begun_is_done_with_its_own_options(stage, facts, said, tmp_path: Path, advice) -> None:
    run = evaluated(tmp_path / "run", "knn")
    if stage == "linear":
        write(run, "extract")
    if facts["status"] == "running":
        (run / "pretrain").mkdir()
        (run / "pretrain" / "encoder.safetensors").touch()
    write(run, stage, **facts)
    assert advice(run) == said


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("pretrain", f"pretrain is running; then `{EXTRACT}`; then `{LINEAR}`"),
        ("extract", f"extract is running; then `{LINEAR}`"),
        ("linear", "linear is running"),
    ],
)
def test_a_stage_that_is_running_is_waited_for(stage: str, said: str, tmp_path: Path, advice) -> None:
    run = evaluated(tmp_path / "run", "knn")
    if stage == "linear":
        write(run, "extract")
    write(run, stage, "running", "--workers 0")
    with held(run, stage):
        assert advice(run) == said


def test_only_what_another_run_has_on_its_own_data_is_lacking(tmp_path: Path, complete: Path, advice, sslkit) -> None:
    run = evaluated(tmp_path / "run", "knn")
    evaluated(run / "on" / "photos", "knn", "linear")
    write(run, "extract")
    assert advice(run) == LINEAR
    shutil.rmtree(complete / "linear")
    assert advice(run) == ""
