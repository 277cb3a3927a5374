import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import ROOT, digest, snapshot
from processes import PAUSE
from processes import sslkit as begin

from sslkit import registry
from sslkit.data import images
from sslkit.data.prepare import packing, processes
from sslkit.data.prepare.subset import Subset
from sslkit.data.shards import open_split
from sslkit.data.sources.base import PACKAGE, Sample, Source
from sslkit.data.sources.folder import FolderSource
from sslkit.errors import InterruptedRun, SslkitError, UsageError
from stages import prepare as stage

NAMES = ("cat", "dog", "eel")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["sslkit.data.prepare.packing"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """60 images in 3 classes: one JPEG is cut short, one PNG holds words, one is a BMP."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for c, name in enumerate(NAMES):
        (root / name).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 256, (24, 18 + c, 3), dtype=np.uint8)
            (root / name / f"{i:02d}.png").write_bytes(images.encode_png(pixels))
    jpeg = images.encode_jpeg(images.decode((root / "cat/03.png").read_bytes()))
    (root / "cat/03.png").rename(root / "cat/03.jpg")
    (root / "cat/03.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (root / "eel/07.png").write_bytes(b"words")
    from PIL import Image

    Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(root / "dog/05.bmp")
    (root / "dog/05.png").unlink()
    return root


def command(*words):
    """Run the stage as the command line does; errors come out as they are raised."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(stage.Prepare)
    app(["--workers", "0", *map(str, words)], standalone_mode=False).execute()


def pack(folder, source, subset, **options):
    """Plan and pack, with the scratch in the folder."""
    return packing.pack(folder, packing.plan(source, subset, folder / ".scratch"), **options)


def packed(root, folder, **options):
    options = {"shard_samples": 7, "workers": 0, **options}
    return pack(folder, FolderSource(root), Subset(val_fraction=0.2), **options)


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    packed(photos, folder)
    return snapshot(folder)


def test_what_is_prepared_is_what_was_there(photos, tmp_path, capsys):
    command(tmp_path / "run", "--source", photos, "--val-fraction", 0.2)
    data = tmp_path / "run/data"
    seen = {}
    for name in ("train", "val"):
        split = open_split(data, name)
        for i in range(len(split)):
            key = json.loads(split.member(i, "json"))["key"]
            assert split.classes[split.labels[i]] == key.split("/")[0]
            seen[key] = split.image_bytes(i)
            if key != "dog/05.bmp":
                assert seen[key] == (photos / key).read_bytes()
    assert len(seen) == 58
    bmp = images.decode((photos / "dog/05.bmp").read_bytes())
    assert images.extension(seen["dog/05.bmp"]) == "png" and (images.decode(seen["dog/05.bmp"]) == bmp).all()
    labels = open_split(data, "train").labels
    assert (np.diff(labels) != 0).sum() > 15  # shuffled, not class after class
    assert {path.name for path in data.iterdir()} == {
        "manifest.json", "skipped.jsonl", "stage.json", "train-000000.tar", "train-000000.idx.npz", "val-000000.tar",
        "val-000000.idx.npz",
    }  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 images that cannot be read skipped")


def test_unreadable_images_are_named_with_the_reason(photos, tmp_path, capsys):
    command(tmp_path / "run", "--source", photos, "--val-fraction", 0.2, "--json")
    results = json.loads(capsys.readouterr().out)
    assert results["train"] + results["val"] == 58 and results["skipped"] == 2 and results["classes"] == 3
    lines = [json.loads(line) for line in (tmp_path / "run/data/skipped.jsonl").read_text().splitlines()]
    reasons = {line["image"]: line["reason"] for line in lines}
    assert set(reasons) == {"cat/03.jpg", "eel/07.png"}
    assert "truncated" in reasons["cat/03.jpg"] and "not an image" in reasons["eel/07.png"]


def test_strict_fails_at_the_first(photos, tmp_path):
    with pytest.raises(SslkitError, match=r"(cat/03.jpg|eel/07.png) cannot be read: .* \(without --strict"):
        command(tmp_path / "run", "--source", photos, "--strict")
    assert not (tmp_path / "run/data/manifest.json").exists()
    command(tmp_path / "run", "--source", photos)
    assert (tmp_path / "run/data/manifest.json").exists()


def test_the_manifest_names_every_shard(photos, tmp_path):
    manifest = packed(photos, tmp_path)
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["classes"] == list(NAMES) and manifest["source"] == "folder" and manifest["skipped"] == 2
    for split, facts in manifest["splits"].items():
        assert facts["labelled"] and facts["samples"] == sum(shard["samples"] for shard in facts["shards"])
        assert facts["samples"] == len(open_split(tmp_path, split))
        for shard in facts["shards"]:
            path = tmp_path / shard["file"]
            assert (shard["bytes"], shard["sha256"]) == (path.stat().st_size, digest(path))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_byte(workers, photos, undisturbed, tmp_path):
    packed(photos, tmp_path, workers=workers)
    assert snapshot(tmp_path) == undisturbed


class Signed(FolderSource):
    """Appends the number of the process that reads an image to a file."""

    def read(self, split, index):
        with Path(f"{self.root}.readers").open("a") as handle:
            handle.write(f"{os.getpid()}\n")
        return super().read(split, index)


@pytest.mark.parametrize(("seconds", "alone"), [(0.0, 7), (60.0, 60)])
def test_processes_take_over_only_where_they_pay(photos, undisturbed, tmp_path, monkeypatch, seconds, alone):
    monkeypatch.setattr(processes, "PAYS_SECONDS", seconds)
    source = Signed(tmp_path / "photos")
    (tmp_path / "photos").symlink_to(photos)
    pack(tmp_path / "data", source, Subset(val_fraction=0.2), shard_samples=7, workers=2, eager=False)
    made = snapshot(tmp_path / "data")
    assert made.pop("manifest.json") == undisturbed["manifest.json"].replace('"folder"', '"test_prepare"')
    assert made == {name: content for name, content in undisturbed.items() if name != "manifest.json"}
    readers = (tmp_path / "photos.readers").read_text().split()
    assert len(readers) == 61  # one image is looked at for its channels
    assert readers.count(str(os.getpid())) == alone + 1  # the first shard of 9, or all of them


def count_to(job, tick):
    for _ in range(job):
        tick()


def test_ticks_of_all_processes_are_counted():
    counts = []
    processes.run_all(count_to, [3, 0, 5], 2, counts.append)
    assert counts == sorted(counts) and counts[-1] == 8


class Deadly(FolderSource):
    """Its n-th read in a process kills that process."""

    reads_left = 0

    def read(self, split, index):
        self.reads_left -= 1
        if self.reads_left < 0:
            self.kill()
        return super().read(split, index)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Orphaning(Deadly):
    """Its n-th read in a worker kills the process that started it, when all of them write into the folder."""

    def kill(self):
        while len(list(self.folder.glob(".*.tmp"))) < self.workers:
            threading.Event().wait(PAUSE)
        with suppress(ProcessLookupError):  # killed by another worker; an OSError would make this image unreadable
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        while True:  # a worker whose parent died must not live on
            signal.pause()


def die_packing(kind, root, folder, reads, workers):
    source = kind(root)
    source.folder, source.workers = folder, workers
    source.reads_left = reads + 1  # one image is looked at before any is packed
    pack(folder, source, Subset(val_fraction=0.2), shard_samples=7, workers=workers)


@pytest.mark.parametrize("reads", [0, 3, 7, 10, 30, 57])
def test_kill_9_and_the_same_again_gives_the_same_bytes(reads, photos, undisturbed, tmp_path):
    process = PROCESSES.Process(target=die_packing, args=(Deadly, photos, tmp_path, reads, 0))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = snapshot(tmp_path)
    assert "manifest.json" not in left
    whole = {name for name in left if not name.startswith(".")}
    assert len(whole) == 2 * (reads // 7) and all(undisturbed[name] == left[name] for name in whole)
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in whole}
    packed(photos, tmp_path)
    assert snapshot(tmp_path) == undisturbed
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in whole} == kept


def test_workers_end_when_their_parent_is_killed(photos, undisturbed, tmp_path):
    process = PROCESSES.Process(target=die_packing, args=(Orphaning, photos, tmp_path, 4, 2))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    # A worker's temporary file bears its number.
    workers = {int(path.name.split(".")[-2]) for path in tmp_path.glob(".*.tmp")}
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while workers and time.monotonic() < deadline:
        workers = {number for number in workers if _runs(number)}
        threading.Event().wait(PAUSE)
    assert not workers
    packed(photos, tmp_path)
    assert snapshot(tmp_path) == undisturbed


def _runs(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


def test_a_dead_worker_is_an_error_of_one_line(photos, tmp_path):
    source = Deadly(photos)
    source.reads_left = 3
    with pytest.raises(SslkitError, match="a worker process died"):
        pack(tmp_path, source, Subset(), shard_samples=7, workers=2)


def prepare_on_a_full_disk(pipe, words, limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        command(*words)
    except BaseException as error:
        pipe.send((type(error).__name__, str(error)))


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(photos, tmp_path):
    words = (tmp_path / "run", "--source", photos, "--val-fraction", 0.2)
    command(tmp_path / "whole", *words[1:])
    receive, send = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=prepare_on_a_full_disk, args=(send, words, 60_000))
    process.start()
    process.join(60)
    kind, message = receive.recv()
    assert kind == "SslkitError" and "cannot write" in message and "train-000000.tar: File too large" in message
    assert not (tmp_path / "run").exists()
    command(*words)
    assert snapshot(tmp_path / "run/data") == snapshot(tmp_path / "whole/data")


def test_no_space_left_is_one_line(photos, undisturbed, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(SslkitError, match=r"train-000000\.tar: No space left on device"),
    ):
        patch.setattr("os.fsync", full)
        packed(photos, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    packed(photos, tmp_path)
    assert snapshot(tmp_path) == undisturbed


def test_an_error_in_one_worker_stops_all_and_keeps_its_words(photos, tmp_path):
    with pytest.raises(SslkitError, match=r"cannot be read: .*without --strict"):
        packed(photos, tmp_path, workers=2, strict=True)
    assert not list(tmp_path.glob(".*.tmp"))
    (tmp_path / "two" / "train-000000.tar").mkdir(parents=True)  # the rename onto it fails
    with pytest.raises(SslkitError, match=r"cannot write .*train-000000.tar: .*rerun the same command to resume"):
        packed(photos, tmp_path / "two", workers=2)


def test_a_run_that_cannot_be_written_is_one_line(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SslkitError, match="cannot write to the run") as caught:
        command(tmp_path / "file" / "run", "--source", photos)
    assert "\n" not in str(caught.value)


def test_the_same_again_is_up_to_date_and_other_settings_are_refused(photos, tmp_path, capsys):
    words = (tmp_path / "run", "--source", photos, "--val-fraction", 0, "--fraction", 0.5)
    command(*words)
    before = snapshot(tmp_path / "run/data")
    command(*words, "--workers", 1)
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(SslkitError, match=r"subset.fraction was 0.5, now 0.25; --force"):
        command(*words[:-1], 0.25)
    assert snapshot(tmp_path / "run/data") == before
    command(*words[:-1], 0.25, "--force")
    assert len(open_split(tmp_path / "run/data", "train")) == 15


def test_a_damaged_shard_is_made_again_by_the_same_command(photos, tmp_path):
    words = (tmp_path / "run", "--source", photos)
    command(*words)
    before, shard = snapshot(tmp_path / "run/data"), tmp_path / "run/data/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(SslkitError, match="stale"):
        open_split(tmp_path / "run/data", "train")
    command(*words)
    assert snapshot(tmp_path / "run/data") == before


def test_changed_images_are_noticed(photos, tmp_path):
    import shutil

    shutil.copytree(photos, tmp_path / "photos")
    command(tmp_path / "run", "--source", tmp_path / "photos")
    shutil.copy(tmp_path / "photos/cat/00.png", tmp_path / "photos/cat/99.png")
    with pytest.raises(SslkitError, match="content was"):
        command(tmp_path / "run", "--source", tmp_path / "photos")


def test_a_fraction_is_inside_a_larger_one(photos, tmp_path):
    keys = []
    for fraction in (0.25, 0.5):
        command(tmp_path / str(fraction), "--source", photos, "--fraction", fraction)
        split = open_split(tmp_path / str(fraction) / "data", "train")
        keys.append({json.loads(split.member(i, "json"))["key"] for i in range(len(split))})
    assert keys[0] < keys[1]


def test_size_shrinks_what_is_larger_and_its_mask(tmp_path):
    folder, rng = tmp_path / "root", np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.kron(rng.integers(0, 2, (5, 10), dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))
    large = rng.integers(0, 256, (40, 80, 3), dtype=np.uint8)
    jpeg = images.encode_jpeg(images.decode(images.encode_png(large)))
    for name, data in {"a.jpg": jpeg, "b.png": images.encode_png(large), "c.jpg": images.encode_jpeg(
        images.decode(images.encode_png(large[:16, :30])))}.items():  # fmt: skip
        (folder / "images" / name).write_bytes(data)
        (folder / "masks" / name).with_suffix(".png").write_bytes(images.encode_png(mask))
    pack(tmp_path / "data", FolderSource(folder), Subset(), size=20)
    split = open_split(tmp_path / "data", "train")
    found = {json.loads(split.member(i, "json"))["key"]: i for i in range(3)}
    for name, size in {"a.jpg": (20, 40), "b.png": (20, 40), "c.jpg": (16, 30)}.items():
        i = found[name]
        assert tuple(split.image(i).shape[1:]) == size
        assert images.extension(split.image_bytes(i)) == name[2:]
    assert split.image_bytes(found["c.jpg"]) == (folder / "images/c.jpg").read_bytes()
    small = images.decode(split.member(found["a.jpg"], "mask.png"))[0].numpy()
    np.testing.assert_array_equal(small, mask[1::2, 1::2])


@pytest.mark.parametrize(
    ("kill", "number", "sign"),
    [
        (os.killpg, signal.SIGINT, "stage.json"),  # workers are being started: they import torch
        (os.kill, signal.SIGINT, "stage.json"),
        (os.killpg, signal.SIGINT, ".*.tmp"),  # workers write
        (os.killpg, signal.SIGTERM, ".*.tmp"),
    ],
)
def test_ctrl_c_is_one_line_whatever_the_workers_do(kill, number, sign, tmp_path):
    data = tmp_path / "run/data"
    process = begin("prepare", tmp_path / "run", "--source", "shapes", "--workers", 2, new_session=True)
    process.wait_for(lambda: [path for path in data.glob(sign) if "stage.json." not in path.name])
    kill(process.pid, number)
    _, err = process.communicate()
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, err) == (128 + number, f"sslkit: {word}; rerun the same command to resume\n")
    assert json.loads((data / "stage.json").read_text())["status"] == "interrupted"
    assert not list(data.glob(".*.tmp")) and not (data / "manifest.json").exists()


def test_a_signal_while_an_image_is_read_is_no_unreadable_image(photos, tmp_path, monkeypatch):
    def stopped(*_):
        raise InterruptedRun("terminated", signal.SIGTERM)

    monkeypatch.setattr(FolderSource, "read", stopped)
    with pytest.raises(InterruptedRun):
        packed(photos, tmp_path)


class Noise(Source):
    """``root`` images of 48 KB, of which none is kept."""

    classes = ("noise",)

    def splits(self):
        return {"train": np.zeros(int(self.root), np.int64)}

    def read(self, split, index):
        pixels = np.random.default_rng(index).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        return Sample(str(index), images.encode_png(pixels), "png", 0)


def test_memory_is_flat_as_images_grow_tenfold(tmp_path):
    peaks = []
    pack(tmp_path / "warm", Noise("5"), Subset())
    for count in (40, 400):
        tracemalloc.start()
        pack(tmp_path / str(count), Noise(str(count)), Subset())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000  # the images are 20 MB


def test_existing_shards_are_repacked(photos, tmp_path):
    command(tmp_path / "one", "--source", photos, "--val-fraction", 0.2)
    command(tmp_path / "two", "--source", "shards", "--root", tmp_path / "one/data")
    for name in ("train", "val"):
        one, two = (open_split(tmp_path / run / "data", name) for run in ("one", "two"))
        contents = [{(s.image_bytes(i), s.classes[s.labels[i]]) for i in range(len(s))} for s in (one, two)]
        assert contents[0] == contents[1] and len(one) == len(two)


def test_classes_from_a_file_and_by_number(photos, tmp_path):
    (tmp_path / "names.txt").write_text("# two of three\neel\n\ncat\n")
    command(tmp_path / "run", "--source", photos, "--classes", tmp_path / "names.txt")
    assert open_split(tmp_path / "run/data", "train").classes == ["cat", "eel"]
    command(tmp_path / "run2", "--source", photos, "--classes", 1)
    assert len(open_split(tmp_path / "run2/data", "train").classes) == 1


@pytest.mark.parametrize(("words", "message"), [
    (["--source", "digit"], "did you mean 'digits'"),
    (["--source", "digits", "--workers", "many"], "expected auto or a whole number"),
    (["--source", "digits", "--classes", "/nowhere.txt"], "neither a number nor a file"),
    (["--source", "digits", "--fraction", "2"], "--fraction 2.0"),
    (["--source", "digits", "--fraction", "0.1", "--per-class", "3"], "exclude each other"),
    (["--source", "folder"], "needs --root"),
])  # fmt: skip
def test_wrong_usage(words, message, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        command(tmp_path / "run", *words)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_an_empty_folder_and_one_without_a_readable_image(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SslkitError, match="No images found in"):
        command(tmp_path / "run", "--source", tmp_path / "empty")
    (tmp_path / "empty/a.png").write_bytes(b"words")
    with pytest.raises(SslkitError, match=r"none of the 1 images of train can be read; the first: a.png"):
        command(tmp_path / "run2", "--source", tmp_path / "empty")
    assert not (tmp_path / "run2/data/manifest.json").exists()


@pytest.mark.parametrize("words", [
    ["--source", "folder", "--root", "{}/words"],
    ["--source", "folder", "--root", "{}/no.tar.gz"],
    ["--source", "folder", "--root", "{}/empty.tar.gz"],
    ["--source", "folder", "--root", "{}/broken", "--strict"],
    ["--source", "folder", "--root", "{}/broken"],
    ["--source", "digits", "--classes", "99"],
])  # fmt: skip
def test_a_failure_leaves_what_was_there(words, tmp_path):
    import tarfile

    (tmp_path / "words").mkdir()
    (tmp_path / "words/a.txt").write_text("words")
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "words", "words")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_text("words")
    (tmp_path / "mine").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for run in (tmp_path / "above/run", tmp_path / "mine"):
        with pytest.raises(SslkitError):
            command(run, *(word.format(tmp_path) for word in words))
        assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_with_force_keeps_what_was_prepared(photos, tmp_path):
    run = tmp_path / "run"
    command(run, "--source", photos)
    before = snapshot(run)
    with pytest.raises(UsageError):
        command(run, "--source", photos, "--classes", 99, "--force")
    assert snapshot(run) == before and (run / "data/stage.json").exists()


def test_a_file_is_no_run(photos, tmp_path):
    (tmp_path / "file").write_text("words")
    with pytest.raises(SslkitError, match="file is a file, not a folder"):
        command(tmp_path / "file", "--source", photos)


def test_what_another_content_left_unpacked_is_not_taken(photos, tmp_path):
    left = tmp_path / "run/.scratch-0123456789abcdef"
    left.mkdir(parents=True)
    (left / ".train.pixels.npy").write_text("of another source")
    command(tmp_path / "run", "--source", photos)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "data"]


def test_help_lists_the_sources_without_importing_torch():
    code = "import sys, typer, stages.prepare as p; app = typer.Typer(); app.command()(p.Prepare); "
    code += "app(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    words, help_only = [sys.executable, "-c", code], {**os.environ, "COLUMNS": "500", "NO_COLOR": "1"}
    *shown, imported = subprocess.check_output(words, text=True, cwd=ROOT, env=help_only).splitlines()
    assert imported == "False"
    assert ", ".join(registry.names(PACKAGE)) in "\n".join(shown)
