"""The contract of stages/run.py: what a person may rely on, whatever a stage does."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, do

from sslkit.errors import InterruptedRun, SslkitError, UsageError
from sslkit.files import atomic, write_json
from stages.contract.layout import Run, open_run, transferred
from stages.contract.lock import held
from stages.contract.lock import holder as holder_of
from stages.contract.stage import stages
from stages.contract.stale import changed_inputs

# A writer that says when it holds the run, then waits for its standard input to close.
HOLDER = """
import os, sys
sys.path.insert(0, "tests")
from pathlib import Path
from conftest import do
from stages.contract.layout import Run

def work(folder):
    {inside}
    print("held", flush=True)
    sys.stdin.read()
    return {{}}

do(Run(Path(sys.argv[1])), "knn", work)
"""


def holder(run: Run, inside: str = "pass") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(inside=inside), str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def close(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


class Stage:
    """A stage that counts how often it worked."""

    def __init__(self, run: Run):
        self.run, self.calls, self.found = run, 0, []
        self.source = run.path.parent / "source.txt"
        self.source.write_text("one")

    def __call__(self, k: int = 20, force: bool = False, **how: str) -> dict:
        return do(
            self.run,
            "knn",
            self.work,
            config={"k": k, "deep": {"a": 1}},
            inputs={"source": self.source},
            how=how,
            force=force,
        )

    def work(self, folder: Path) -> dict:
        self.calls += 1
        self.found = sorted(p.name for p in folder.iterdir() if p.name != "stage.json")
        (folder / "results.json").write_text("{}")
        return {"top1": 50.0}


@pytest.fixture
def stage(run: Run) -> Stage:
    return Stage(run)


def test_a_second_time_is_up_to_date(stage: Stage) -> None:
    assert stage() == {"top1": 50.0}
    assert stage(device="other") == {"top1": 50.0, "up_to_date": True}
    assert stage.calls == 1


def test_the_record_says_what_went_in_and_out(stage: Stage) -> None:
    stage(device="cpu")
    record = stage.run.record("knn")
    assert record is not None
    assert record["status"] == "done"
    assert record["config"] == {"k": 20, "deep": {"a": 1}}
    assert record["how"] == {"device": "cpu"}
    assert record["inputs"]["source"]["path"] == "../source.txt"
    assert record["outputs"] == {"results.json": {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}}
    assert record["seconds"] >= 0
    assert record["peak_memory_mb"] > 1
    assert record["versions"]["python"].startswith("3.")


def test_other_settings_are_refused_by_name_and_force_redoes(stage: Stage) -> None:
    stage()
    with pytest.raises(SslkitError, match=r"k was 20, now 10; --force") as caught:
        stage(k=10)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert stage.run.record("knn")["config"]["k"] == 20  # type: ignore[index]
    assert stage(k=10, force=True) == {"top1": 50.0}
    assert stage.found == []  # nothing of the first try was left


def test_a_changed_input_is_stale_and_refused(stage: Stage) -> None:
    stage()
    assert changed_inputs(stage.run, "knn") == []
    stage.source.write_text("two")
    assert changed_inputs(stage.run, "knn") == ["source"]
    with pytest.raises(SslkitError, match="the input source changed"):
        stage()
    stage.source.unlink()
    assert changed_inputs(stage.run, "knn") == ["source"]


def test_a_lost_output_is_made_again(stage: Stage) -> None:
    stage()
    (stage.run.folder("knn") / "results.json").unlink()
    assert "up_to_date" not in stage()
    assert stage.calls == 2


def test_many_differences_are_counted(run: Run) -> None:
    do(run, "knn", lambda folder: {}, config={str(i): 0 for i in range(6)}, inputs={})
    with pytest.raises(SslkitError, match=r"3 was 0, now 1; and 2 more"):
        do(run, "knn", lambda folder: {}, config={str(i): 1 for i in range(6)}, inputs={})


def test_a_moved_run_is_still_up_to_date(stage: Stage, tmp_path: Path) -> None:
    (stage.run.path / "in.txt").parent.mkdir(exist_ok=True)
    stage.source = stage.run.path / "in.txt"
    stage.source.write_text("inside")
    stage()
    moved = stage.run.path.rename(tmp_path / "moved")
    stage.run, stage.source = Run(moved), moved / "in.txt"
    assert stage()["up_to_date"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SslkitError("the seventh image is bad\nand more"), "failed"),
        (ValueError("a bug"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (InterruptedRun("terminated", signal.SIGTERM), "interrupted"),
    ],
)
def test_a_failed_stage_is_recorded_and_goes_on(stage: Stage, error: BaseException, status: str) -> None:
    def work(folder: Path) -> dict:
        (folder / "half").write_text("kept for the next try")
        raise error

    with pytest.raises(type(error)):
        do(stage.run, "knn", work, config={"k": 20, "deep": {"a": 1}}, inputs={"source": stage.source})
    record = stage.run.record("knn")
    assert record is not None
    assert record["status"] == status
    assert "\n" not in record.get("error", "")
    stage()
    assert stage.found == ["half"]


def test_a_second_writer_is_told_who_holds_the_run(stage: Stage) -> None:
    process = holder(stage.run)
    try:
        with pytest.raises(SslkitError, match=rf"written by process {process.pid} \(sslkit knn\); wait") as caught:
            stage()
        assert caught.value.exit_code == 1
        assert holder_of(stage.run.path) == "knn"
        assert stage.calls == 0
    finally:
        close(process)
    assert holder_of(stage.run.path) is None


def test_kill_9_frees_the_run_and_the_same_command_goes_on(stage: Stage) -> None:
    process = holder(stage.run, '(folder / "half").write_text("")')
    process.send_signal(signal.SIGKILL)
    close(process)
    assert stage.run.record("knn")["status"] == "running"  # type: ignore[index]
    do(stage.run, "knn", stage.work, config={}, inputs={})
    assert stage.found == ["half"]


def test_a_forked_worker_that_outlives_a_killed_writer_does_not_keep_the_run(stage: Stage) -> None:
    # The child says when it runs, and ends when the test closes the standard input that it shares.
    child = '(os.write(w, b"x"), sys.stdin.read(), os._exit(0))'
    process = holder(stage.run, f"r, w = os.pipe(); os.fork() or {child}; os.read(r, 1)")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    do(stage.run, "knn", stage.work, config={}, inputs={})
    assert stage.calls == 1
    close(process)


def test_two_writers_in_one_process(stage: Stage) -> None:
    with held(stage.run.path, "extract"), pytest.raises(SslkitError, match=r"\(sslkit extract\)"):
        stage()
    stage()


def test_a_run_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SslkitError, match="cannot write to the run") as caught:
        do(Run(tmp_path / "file" / "run"), "knn", lambda folder: {}, config={}, inputs={})
    assert caught.value.exit_code == 1


def test_a_read_only_run_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    run.path.mkdir()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SslkitError, match="Read-only file system"):
        do(run, "knn", lambda folder: {}, config={}, inputs={})


def test_a_full_disk_leaves_the_first_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(folder: Path) -> dict:
        monkeypatch.setattr(os, "fsync", full)
        raise SslkitError("the reason")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SslkitError, match="the reason"):
        do(run, "knn", work, config={}, inputs={})


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with pytest.raises(RuntimeError), atomic(path, "w") as handle:
        handle.write("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with atomic(path, "w") as handle:
        handle.write("whole")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), atomic(path, "w") as handle:
        handle.write("other")
        raise KeyboardInterrupt
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_damaged_record_is_one_line(stage: Stage) -> None:
    stage()
    (stage.run.folder("knn") / "stage.json").write_text('{"status": ')
    with pytest.raises(SslkitError, match=r"stage\.json is damaged: it ends too early"):
        stage()
    assert stage(force=True) == {"top1": 50.0}


def test_up_to_date_with_what_is_stale_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("1")

    def perform(stage: str, **inputs: Path) -> dict:
        return do(run, stage, lambda folder: {"n": (folder / "out").write_text(stage)}, config={}, inputs=inputs)

    perform("pretrain", recipe=tmp_path / "source")
    perform("extract", weights=run.pretrain / "out")
    assert perform("extract", weights=run.pretrain / "out") == {"n": 7, "up_to_date": True}
    (tmp_path / "source").write_text("2")
    assert perform("extract", weights=run.pretrain / "out")["stale"] == ["stage pretrain"]


def test_who_reads_what_a_stale_stage_made_is_told(run: Run, tmp_path: Path, capsys) -> None:
    (tmp_path / "source").write_text("1")

    def perform(stage: str, folder: str, **options: bool) -> list[str]:
        inputs = {"input": run.path / folder / "out" if folder else tmp_path / "source"}
        do(run, stage, lambda out: {"n": (out / "out").write_text(stage)}, config={}, inputs=inputs, **options)
        return capsys.readouterr().err.splitlines()

    for stage, folder in (("pretrain", ""), ("extract", "pretrain"), ("knn", "features")):
        assert perform(stage, folder) == []
    (tmp_path / "source").write_text("2")
    (line,) = perform("extract", "pretrain", force=True)
    assert line.startswith("stage pretrain is stale: input changed since; its files are used as they are")
    assert f"`sslkit status {run.path}`" in line
    (line,) = perform("linear", "features")
    assert line.startswith("stage extract is stale: stage pretrain changed since")
    assert perform("pretrain", "", force=True) == []
    assert perform("extract", "pretrain", force=True) == []
    assert perform("knn", "features", force=True) == []


def test_what_is_missing_below_a_run_is_made_from_the_run(tmp_path: Path) -> None:
    for name in ("a", "digits"):
        write_json(Run(tmp_path / name).manifest, {"name": name})
    below = transferred(tmp_path / "a", tmp_path / "digits")
    with pytest.raises(SslkitError, match=f"run `sslkit extract {tmp_path / 'a'} --data {tmp_path / 'digits'}` first"):
        below.need(below.features_info)


def test_a_missing_stage_is_named(run: Run) -> None:
    run.path.mkdir()
    with pytest.raises(SslkitError, match=rf"run `sslkit pretrain {run.path} --recipe \.\.\.` first"):
        run.need(run.encoder)


def test_data_of_another_run_is_remembered(tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    other.own_data.mkdir(parents=True)
    other.manifest.write_text("{}")
    run = open_run(tmp_path / "run", other.path)
    assert run.manifest == other.manifest
    run.remember_data()
    assert Run(run.path).manifest.resolve() == other.manifest.resolve()
    assert json.loads((run.own_data / "reference.json").read_text()) == {"run": "../other"}
    # A run that borrows its data lends them, and they keep their name.
    borrowed = open_run(tmp_path / "third", run.path)
    borrowed.remember_data()
    assert json.loads((borrowed.own_data / "reference.json").read_text()) == {"run": "../other"}
    write_json(Run(tmp_path / "own").manifest, {"name": "own"})
    assert transferred(tmp_path / "own", run.path).path == tmp_path / "own/on/other"


def test_a_run_must_be_named_and_data_must_be_prepared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SSLKIT_RUN"):
        open_run(None)
    with pytest.raises(SslkitError, match="sslkit prepare"):
        open_run(tmp_path / "run", tmp_path / "nothing")


def test_every_stage_has_its_own_folder() -> None:
    folders = [stage.folder for stage in stages().values() if stage.folder]
    assert len(set(folders)) == len(folders)


def test_a_variant_of_a_stage_has_a_folder_and_a_record_of_its_own(tmp_path):
    run = Run(tmp_path)
    for stage in ("linear", "linear:augment"):
        do(run, stage, lambda folder: {"folder": folder.name}, config={}, inputs={})
    assert run.folder("linear:augment") == tmp_path / "linear-augment"
    assert (run.record("linear:augment") or {})["results"] == {"folder": "linear-augment"}
    assert run.stages() == ["linear", "linear:augment"]


def test_other_data_than_the_runs_own_is_judged_below_it(tmp_path):
    for name in ("a", "digits"):
        write_json(Run(tmp_path / name).manifest, {"name": name})
    own = transferred(tmp_path / "a", None)
    same = transferred(tmp_path / "a", tmp_path / "a")
    other = transferred(tmp_path / "a", tmp_path / "digits")
    assert own.path == same.path == tmp_path / "a"
    assert other.path == tmp_path / "a/on/digits" and other.manifest == tmp_path / "digits/data/manifest.json"
    assert other.encoder == own.encoder and other.features != own.features
    # A run without data takes what it is given.
    assert transferred(tmp_path / "new", tmp_path / "a").path == tmp_path / "new"
    other.remember_data()
    write_json(Run(tmp_path / "elsewhere" / "digits").manifest, {"name": "other digits"})
    with pytest.raises(SslkitError, match="rename one of the two"):
        transferred(tmp_path / "a", tmp_path / "elsewhere" / "digits")
    again = Run(tmp_path / "a/on/digits")
    assert again.manifest.samefile(other.manifest) and Run(tmp_path / "a").transfers()[0].path == again.path
