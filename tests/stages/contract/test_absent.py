"""A run or a file that is not there: the message tells a run that does not exist from a stage that was interrupted."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import do

from sslkit.errors import SslkitError
from stages.contract.absent import nearest_folder
from stages.contract.integrity import write_record
from stages.contract.layout import Run
from stages.contract.lock import held

COMMAND = ["sslkit", "pretrain", "RUN", "--recipe", "dino", "--epochs", "3"]
READERS = (
    ["extract"],
    ["knn"],
    ["linear"],
    ["attn-viz"],
    ["embed"],
    ["neighbours"],
    ["occlusion"],
    ["health"],
    ["segment"],
    ["finetune"],
    ["reconstruct"],
    ["export", "out"],
    ["curves", "--out", "curves.png"],
    ["compare"],
    ["report"],
    ["status"],
    ["preview", "--recipe", "dino"],
    ["pretrain", "--recipe", "dino"],
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch) -> Path:
    """The folder ``runs`` of a person, with the run ``exp1`` in it, in the working directory."""
    (tmp_path / "runs" / "exp1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def ended(run: Path, stage: str, monkeypatch, how: BaseException, *words: str) -> str:
    """Let a stage of a run end by an exception; returns its command line."""
    command = ["sslkit", stage, str(run), *words]

    def work(folder: Path) -> dict:
        raise how

    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", command)
        with pytest.raises(type(how)):
            do(Run(run), stage, work)
    return " ".join(command)


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
def test_no_stage_takes_a_run_that_does_not_exist_for_one_that_lacks_a_file(runs, sslkit, words):
    code, out, err = sslkit(words[0], "runs/nothing", *words[1:])
    assert code == 1
    assert err.startswith("sslkit: no run directory at runs/nothing: ")
    assert "did you mean" not in err
    assert err.count("\n") == 1
    assert out == ""
    _, _, err = sslkit(words[0], "runs/exp2", *words[1:])
    assert err.startswith("sslkit: no run directory at runs/exp2: did you mean runs/exp1? If not, ")
    assert not Path("runs/exp2").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["knn", "runs/exp1", "--data", "runs/exp2"],
        ["pretrain", "runs/new", "--recipe", "dino", "--data", "runs/exp2"],
        ["extract", "runs/new", "--weights", "random", "--like", "runs/exp2"],
        ["compare", "runs/exp1", "--baseline", "runs/exp2"],
    ],
)
def test_the_run_of_an_option_that_does_not_exist_is_called_by_that(runs, sslkit, words):
    code, _, err = sslkit(*words)
    assert code == 1
    assert err.startswith(f"sslkit: {words[-2]}: no run directory at runs/exp2: did you mean runs/exp1?")
    assert not Path("runs/new").exists()


def test_weights_of_a_run_that_does_not_exist_name_the_nearest(runs, sslkit):
    _, _, err = sslkit("extract", "runs/exp1", "--weights", "runs/exp2")
    assert err == "sslkit: no checkpoint at runs/exp2: did you mean runs/exp1?\n"


def test_the_nearest_folder_is_found_below_a_misspelt_one(runs):
    assert nearest_folder(Path("run/exp1")) == Path("runs/exp1")
    assert nearest_folder(Path("run/zzz")) is None
    assert nearest_folder(Path("runs/zzz")) is None
    (runs / "file1").touch()
    assert nearest_folder(Path("runs/file2")) is None


def test_data_that_another_run_held_are_missed_where_they_were(runs):
    run = Run(runs / "exp1")
    run.own_data.mkdir()
    (run.own_data / "reference.json").write_text(json.dumps({"run": "../gone"}))
    with pytest.raises(
        SslkitError, match=r"data of runs/exp1 are another run's: no run directory at .*/gone: .*--data"
    ):
        run.need(run.manifest)


# A stage that another one needs, and the command line of the other.
NEEDED = [
    ("prepare", ["pretrain", "runs/exp1", "--recipe", "dino"]),
    ("prepare", ["pretrain", "runs/new", "--recipe", "dino", "--data", "runs/exp1"]),
    ("prepare", ["preview", "runs/exp1", "--recipe", "dino"]),
    ("pretrain", ["export", "runs/exp1", "out"]),
    ("pretrain", ["extract", "runs/exp2", "--data", "data", "--weights", "runs/exp1"]),
    ("pretrain", ["pretrain", "runs/exp2", "--data", "data", "--recipe", "dino", "--weights", "runs/exp1"]),
    ("pretrain", ["extract", "runs/exp2", "--data", "data", "--weights", "random", "--like", "runs/exp1"]),
    ("extract", ["knn", "runs/exp1"]),
    ("extract", ["linear", "runs/exp1"]),
    ("extract", ["embed", "runs/exp1"]),
    ("extract", ["neighbours", "runs/exp1"]),
    ("linear", ["occlusion", "runs/exp1"]),
]


@pytest.mark.parametrize(("stage", "words"), NEEDED)
def test_an_interrupted_stage_that_another_needs_is_named_with_its_command(
    runs, sslkit, monkeypatch, shapes_run, stage, words
):
    shutil.copytree(shapes_run, "data", symlinks=True)
    command = ended(runs / "exp1", stage, monkeypatch, KeyboardInterrupt(), "--seed", "7")
    code, _, err = sslkit(*words)
    assert code == 1
    assert f": {stage} was interrupted: rerun `{command}` to resume\n" in err
    assert err.count("\n") == 1


def test_a_stage_that_failed_was_killed_or_still_runs_is_told_apart(runs, monkeypatch):
    run = Run(runs / "exp1")

    def missed() -> str:
        with pytest.raises(SslkitError) as error:
            run.need(run.encoder)
        return str(error.value)

    assert missed().endswith("encoder.safetensors is missing: run `sslkit pretrain runs/exp1 --recipe ...` first")
    command = ended(run.path, "pretrain", monkeypatch, ValueError("loss is NaN"), "--recipe", "dino")
    assert missed().endswith(f": pretrain failed (loss is NaN): fix that, then rerun `{command}`")
    write_record(run.pretrain, {**(run.record("pretrain") or {}), "status": "running"})
    assert missed().endswith(f": pretrain was killed before it was done: rerun `{command}` to resume")
    with held(run.path, "pretrain"):
        assert missed().endswith(": pretrain is still running: wait until it is done")
    record = {**(run.record("pretrain") or {}), "status": "done", "outputs": {"encoder.safetensors": 5}}
    write_record(run.pretrain, record)
    assert missed().endswith(f": pretrain wrote it, so it was removed since: rerun `{command}` to restore it")


def test_a_run_that_was_renamed_gets_a_command_for_its_new_name(runs, sslkit, monkeypatch):
    ended(runs / "exp1", "extract", monkeypatch, KeyboardInterrupt())
    (runs / "exp1").rename(runs / "exp3")
    assert "extract was interrupted: rerun `sslkit extract runs/exp3` to resume" in sslkit("knn", "runs/exp3")[2]


def test_features_of_an_interrupted_extract_are_not_taken_for_another_programs(runs, sslkit, monkeypatch, trained_run):
    shutil.copytree(trained_run / "features", runs / "exp1" / "features")
    (runs / "exp1" / "features" / "features.json").unlink()
    (runs / "exp1" / "features" / "stage.json").unlink()
    ended(runs / "exp1", "extract", monkeypatch, KeyboardInterrupt())
    code, _, err = sslkit("knn", "runs/exp1")
    assert code == 1
    assert "features.json is missing: extract was interrupted: rerun `sslkit extract runs/exp1` to resume" in err


def test_training_that_was_interrupted_is_resumed_by_the_command_named(
    sslkit, stops_at, shapes_run, tiny_scale, tmp_path
):
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, "--workers", 0, "--device", "cpu"]
    with stops_at(2):
        assert sslkit("pretrain", tmp_path / "run", *words)[0] > 128
    _, _, err = sslkit("extract", tmp_path / "run")
    again = err.partition("pretrain was interrupted: rerun `sslkit ")[2].partition("` to resume")[0]
    code, _, err = sslkit(*again.split())
    assert code == 0
    assert "resuming at step 2" in err
