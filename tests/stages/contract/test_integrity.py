"""Records vouch for what stages wrote: damage is said before a result is reused or read."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import do

from sslkit.artifacts import DamagedFile
from stages.contract.integrity import check_recorded, read_record, remedy
from stages.contract.layout import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run in which k-NN wrote a result and a picture."""
    run = Run(tmp_path / "run")
    knn(run)
    return run


def knn(run: Run, **options) -> dict:
    def work(folder: Path) -> dict:
        (folder / "results.json").write_text('{"top1": 50.0}')
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "map.png").write_bytes(b"picture")
        return {"top1": 50.0}

    return do(run, "knn", work, **options)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["results.json", "deep/map.png"])
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_output_is_made_again(run: Run, capsys, name: str, damage) -> None:
    path = run.folder("knn") / name
    before = path.read_bytes()
    assert knn(run)["up_to_date"]
    damage(path)
    assert "up_to_date" not in knn(run)
    assert f"knn: {name} missing or no longer what it wrote: made again" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert knn(run)["up_to_date"]


def test_a_large_stage_is_compared_by_size_when_it_is_reused(run: Run, monkeypatch) -> None:
    from stages.contract import integrity, perform

    flip(run.folder("knn") / "results.json")
    small = lambda folder, record: integrity.damaged_outputs(folder, record, most=10)  # noqa: E731
    monkeypatch.setattr(perform, "damaged_outputs", small)
    assert knn(run)["up_to_date"]


def test_a_damaged_input_is_refused_before_any_work(run: Run) -> None:
    path = run.folder("knn") / "results.json"
    check_recorded(path)
    flip(path)
    with pytest.raises(DamagedFile, match=r"results\.json is damaged: its bytes are not those that were written"):
        do(run, "linear", lambda folder: {}, inputs={"knn": path})
    assert not run.folder("linear").exists()
    with pytest.raises(DamagedFile):
        run.need(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["results"].update(top1=99.0),
        lambda record: record["config"].update(k=3),
        lambda record: record.update(status="failed"),
        lambda record: record["outputs"]["results.json"].update(sha256="0" * 64),
    ],
)
def test_a_record_vouches_for_itself(run: Run, change, sslkit) -> None:
    path = run.folder("knn") / "stage.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(DamagedFile, match=r"stage\.json is damaged: it is not what the stage wrote"):
        knn(run)
    code, out, _ = sslkit("status", run.path)
    assert code == 0
    assert "knn: stage.json is damaged (it is not what the stage wrote); redo it with --force" in out
    assert knn(run, force=True) == {"top1": 50.0}


def test_records_of_earlier_versions_are_read(run: Run) -> None:
    path = run.folder("knn") / "stage.json"
    record = json.loads(path.read_text())
    del record["sha256_of_this_record"]
    record["outputs"] = {name: facts["bytes"] for name, facts in record["outputs"].items()}
    path.write_text(json.dumps(record))
    assert read_record(path.parent) == record
    assert knn(run)["up_to_date"]
    check_recorded(run.folder("knn") / "results.json")


def test_status_verify_reads_every_byte(run: Run, sslkit) -> None:
    code, _, err = sslkit("status", run.path, "--verify")
    assert code == 0
    assert "every file of a finished stage holds the bytes that were written" in err
    flip(run.folder("knn") / "deep" / "map.png")
    assert sslkit("status", run.path)[0] == 0
    code, out, err = sslkit("status", run.path, "--verify")
    assert code == 1
    assert "knn: deep/map.png is damaged; redo it by the same command" in out
    assert err == "sslkit: files are missing or damaged: knn (deep/map.png); the lines above say what to do\n"
    code, out, _ = sslkit("status", run.path, "--verify", "--json")
    assert code == 1
    assert json.loads(out)["stages"]["knn"]["damaged"] == ["deep/map.png"]


def test_the_advice_is_the_recorded_command_of_this_very_run(run: Run, tmp_path: Path, monkeypatch) -> None:
    def recorded(where: Run, *words: str) -> Path:
        monkeypatch.setattr("sys.argv", ["sslkit", *words])
        knn(where, force=True)
        return where.folder("knn") / "results.json"

    monkeypatch.chdir(tmp_path)
    path = recorded(run, "knn", "run", "--k", "20")
    assert remedy(path) == "redo it with `sslkit knn run --k 20 --force`"
    shutil.copytree(run.path, tmp_path / "copy")
    assert remedy(Run(tmp_path / "copy").folder("knn") / "results.json") == (
        f"redo it with `sslkit knn {tmp_path / 'copy'} --force`"
    )
    assert remedy(tmp_path / "photo.json") == "put a good copy in its place"
    assert remedy(run.path / "data" / "reference.json") == "name the prepared data again with --data RUN"


def test_what_a_killed_process_left_is_swept_by_the_next_run(run: Run) -> None:
    folder = run.folder("knn")
    dead, living = folder / "deep" / ".map.png.4000000.tmp", folder / f".results.json.{os.getppid()}.tmp"
    dead.touch(), living.touch()
    assert knn(run)["up_to_date"]
    assert not dead.exists()
    assert living.exists()
