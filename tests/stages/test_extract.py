"""``extract``: the same bytes whatever happens, whoever computes them, and what can be wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
import ranks
import torch
from conftest import ROOT, snapshot
from PIL import Image

from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.probes.features.extraction import CropBatches, EncoderEmbedding, PixelEmbedding, row_shapes
from sslkit.probes.features.resumable_arrays import PartialArrays
from sslkit.weights.write import save_encoder
from stages import cli
from stages.contract.layout import Run

CPU = torch.device("cpu")
TINY = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=3, heads=3)
RANDOM = ["--weights", "random", "--batch-size", "4"]  # with --like, which knows the architecture
QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run with 18 + 6 prepared images of two classes and several sizes, and a trained encoder."""
    root = tmp_path_factory.mktemp("extract")
    random = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 3)):
        for label in ("cat", "dog"):
            (root / "images" / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (40 + i, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "images" / split / label / f"{i}.png")
    run = root / "run"
    processes.succeed("prepare", run, "--source", root / "images", "--workers", 0)
    torch.manual_seed(7)
    save_encoder(Encoder(TINY), run / "pretrain/encoder.safetensors", run / "pretrain/encoder.json", "teacher")
    return run


def test_features_are_those_of_the_encoder(tmp_path, prepared, sslkit):
    from sslkit.data.shards import open_split
    from sslkit.weights.read import load_encoder

    weights = prepared / "pretrain/encoder.safetensors"
    words = ["extract", tmp_path / "run", "--data", prepared, "--weights", weights, "--last-blocks", 2, *QUICK]
    code, out, err = sslkit(*words)
    assert code == 0
    assert "18" in out
    assert "keys used" in err
    folder = tmp_path / "run/features"
    info = json.loads((folder / "features.json").read_text())
    assert info["keys"]["missing"] == []
    assert len(info["keys"]["used"]) == 42
    assert info["splits"] == {"train": {"images": 18, "labelled": 18}, "val": {"images": 6, "labelled": 6}}
    encoder = load_encoder(weights, weights.with_suffix(".json"))
    for name, count in (("train", 18), ("val", 6)):
        split = open_split(prepared / "data", name)
        pixels = torch.stack([evaluation_crop(split.image(i), 32) for i in range(count)]).float() / 255
        mean, std = (torch.tensor(info[key])[:, None, None] for key in ("mean", "std"))
        with torch.no_grad():
            tokens = encoder((pixels - mean) / std)
        cls, blocks, patch_mean = (np.load(folder / name / f"{a}.npy") for a in ("cls", "blocks", "patch_mean"))
        assert cls.dtype == np.float32
        assert blocks.shape == (count, 2, 24)
        np.testing.assert_allclose(cls, tokens.cls, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(patch_mean, tokens.patches.mean(1), rtol=1e-4, atol=1e-5)
        assert np.array_equal(blocks[:, -1], cls)
        labels = np.load(folder / name / "labels.npy")
        assert labels.dtype == np.int64
        assert np.array_equal(labels, split.labels)
    assert sslkit(*words)[2] == "up to date\n"


def test_the_runs_own_encoder_is_the_default(tmp_path, prepared, sslkit):
    import shutil

    shutil.copytree(prepared, tmp_path / "run")
    code, _, err = sslkit("extract", tmp_path / "run", *QUICK)
    assert code == 0, err
    assert json.loads((tmp_path / "run/features/features.json").read_text())["weights"] == "run"
    # The same architecture with other weights, in a separate run.
    code, _, err = sslkit("extract", tmp_path / "random", "--like", tmp_path / "run", "--weights", "random", *QUICK)
    assert code == 0, err
    one, other = (np.load(tmp_path / run / "features/train/cls.npy") for run in ("run", "random"))
    assert one.shape == other.shape
    assert not np.allclose(one, other)


def test_pixels(tmp_path, prepared, sslkit):
    assert sslkit("extract", tmp_path, "--data", prepared, "--weights", "pixels", *QUICK)[0] == 0
    assert np.load(tmp_path / "features/train/cls.npy").shape == (18, 3 * 32 * 32)
    assert not (tmp_path / "features/train/blocks.npy").exists()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 on fork, DataLoader's default
def test_workers_change_nothing(tmp_path, prepared, sslkit):
    for workers in (0, 1, 4):
        words = [*RANDOM, "--device", "cpu", "--like", prepared, "--workers", workers]
        assert sslkit("extract", tmp_path / str(workers), *words)[0] == 0
    assert (
        snapshot(tmp_path / "0" / "features")
        == snapshot(tmp_path / "1" / "features")
        == snapshot(tmp_path / "4" / "features")
    )


KILLED = """
import os, signal, sys, torch
from stages import cli, extract
from sslkit.data import shards
from sslkit.encoder import frozen
from sslkit.probes.features import extraction, resumable_arrays as partial
from sslkit.weights import read
words = sys.argv[1:]
extraction.COMMIT_SECONDS = -1.0

def child(run, moment):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    left = [moment]
    def dying(function):
        def call(*arguments):
            left[0] -= 1
            if left[0] == 0:
                if function is real["write"]:  # torn: half of the batch is on disk
                    function(arguments[0], arguments[1], {k: v[:2] for k, v in arguments[2].items()})
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)
        return call
    real = {"write": partial.PartialArrays.write, "commit": partial.PartialArrays.commit}
    for name, function in real.items():
        setattr(partial.PartialArrays, name, dying(function))
    partial.Path.replace = dying(partial.Path.replace)
    sys.argv = ["sslkit", "extract", run, *words]
    sys.stdout = sys.stderr = open(os.devnull, "w")
    try:
        cli.main()
    finally:
        os._exit(0 if sys.exc_info()[1].code == 0 else 1)

# In this process, so that everything is imported before it is forked.
sys.argv, sys.stdout, shown = ["sslkit", "extract", "undisturbed", *words], open(os.devnull, "w"), sys.stdout
try:
    cli.main()
except SystemExit as ended:
    assert ended.code in (0, None)
sys.stdout, moment = shown, 1
while os.WIFSIGNALED(child(f"killed-{moment}", moment)):
    assert child(f"killed-{moment}", 0) == 0, moment
    moment += 1
print(moment)
"""


def test_kill_9_at_any_moment_changes_nothing(tmp_path, prepared):
    # Moments: every write of a batch, commit and rename of the stage, one after the other until none is left.
    words = [*RANDOM, *QUICK, "--like", str(prepared), "--batch-size", "7"]
    code = [sys.executable, "-c", KILLED, *words]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(code, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    moments = int(ended.stdout)
    assert moments > 20
    expected = snapshot(tmp_path / "undisturbed" / "features")
    files = ("blocks.npy", "cls.npy", "labels.npy", "patch_mean.npy", "samples.jsonl")
    assert {name for name in expected if "train" in name} == {f"train/{name}" for name in files}
    for moment in range(1, moments + 1):
        assert snapshot(tmp_path / f"killed-{moment}" / "features") == expected, moment


def extract(folder: Path, words: list[str]) -> None:
    sys.argv = ["sslkit", "extract", str(folder / "run"), *words]
    cli.main()


def test_two_processes_write_what_one_writes(tmp_path, prepared):
    words = [*RANDOM, *QUICK, "--like", str(prepared)]
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        ended = ranks.exit_codes(ranks.start(extract, size, tmp_path / str(size), words))
        assert ended == [0] * size, ranks.said(tmp_path / str(size), size)
    assert snapshot(tmp_path / "1" / "run" / "features") == snapshot(tmp_path / "2" / "run" / "features")


def test_partial_arrays_go_on_only_with_their_like(tmp_path):
    arrays = PartialArrays({"cls": tmp_path / "cls.npy"}, {"cls": (3,)}, rows=5, batch_size=2)
    key, other = "a" * 64, "b" * 64
    assert arrays.prepare(key) == [0, 1, 2]
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    for batch in (0, 2):
        arrays.write(batch, {"cls": rows[2 * batch : 2 * batch + 2]})
    arrays.commit([0, 2])
    assert arrays.prepare(key) == [1]
    arrays.write(1, {"cls": rows[2:4]})
    arrays.commit([1])
    arrays.close()
    assert not (tmp_path / "cls.npy").exists()
    arrays.finish()
    assert np.array_equal(np.load(tmp_path / "cls.npy"), rows)
    assert arrays.prepare(key) == []
    assert arrays.prepare(other) == [0, 1, 2]


def test_a_full_disk_is_found_before_the_work(tmp_path, prepared, sslkit, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    code, _, err = sslkit("extract", tmp_path / "run", "--like", prepared, *RANDOM, *QUICK)
    assert code == 1
    assert "No space left on device; free some space" in err
    assert err.count("\n") == 1
    monkeypatch.undo()
    assert not list((tmp_path / "run").rglob("*.npy"))


def test_an_error_in_a_worker_is_still_one_line():
    class Broken:
        def __len__(self):
            return 3

        def image(self, i):
            raise SslkitError("stale index")

    assert isinstance(CropBatches(Broken(), 8, 2)[1], SslkitError)


def test_models_that_are_no_vit_give_their_pooled_output():
    encoder = Encoder(EncoderSpec("resnet18", image_size=32)).eval()
    assert row_shapes(EncoderEmbedding(FrozenEncoder(encoder, 32, CPU, "fp32"), 4)) == {"cls": (512,)}
    assert row_shapes(PixelEmbedding(8, CPU)) == {"cls": (192,)}


ARCH = ["--weights", "random", "--arch", "vit_tiny_patch16_224"]
BAD = {
    "no data": (["--weights", "pixels"], 1, "run `sslkit prepare"),
    "no encoder": ([], 1, "run `sslkit pretrain"),
    "no file": (["--weights", "absent.pth", "--arch", "vit_tiny_patch16_224"], 1, "no checkpoint at absent.pth"),
    "file of unknown heads": (["--weights", "FILE"], 2, "name its --arch"),
    "other architecture": (["--weights", "FILE", "--arch", "vit_tiny_patch16_224"], 1, "another architecture"),
    "arch alone": (["--arch", "resnet18"], 2, "requires --pretrained"),
    "unknown arch": (["--arch", "vit_tinny_patch16_224", "--weights", "random"], 2, "did you mean"),
    "patch size": ([*ARCH, "--image-size", "32", "--patch-size", "5"], 2, "does not divide"),
    "random of nothing": (["--weights", "random"], 2, "--arch NAME or --like RUN"),
    "like without baseline": (["--like", "RUN"], 2, "--like goes with"),
    "too many blocks": ([*ARCH, "--last-blocks", "13"], 1, "has 12 blocks"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(tmp_path, prepared, sslkit, name):
    words, expected, says = BAD[name]
    (tmp_path / "run").mkdir()
    wide = Encoder(EncoderSpec(**{**vars(TINY), "width": 48}))
    torch.save(wide.model.state_dict(), tmp_path / "wide.pth")
    words = [{"FILE": tmp_path / "wide.pth", "RUN": prepared}.get(word, word) for word in words]
    data = [] if name == "no data" else ["--data", prepared]
    code, out, err = sslkit("extract", tmp_path / "run", *data, *words, *QUICK)
    assert code == expected, err
    assert not out, err
    assert says in err, err
    assert err.count("\n") == 1, err


def test_results_on_other_data_go_below_the_run(trained_run, sslkit, tmp_path):
    run, digits = tmp_path / "run", tmp_path / "digits"
    shutil.copytree(trained_run, run)
    (run / "data" / "reference.json").unlink()
    Run(run, Run(trained_run).data.parent).remember_data()
    assert sslkit("prepare", digits, "--source", "digits", "--per-class", 4, "--workers", 0)[0] == 0
    before = (run / "knn" / "results.json").read_bytes()
    for stage in ("extract", "knn"):
        code, _, err = sslkit(stage, run, "--data", digits, *(QUICK if stage == "extract" else []))
        assert code == 0, err
    other = Run(run / "on" / "digits")
    made = other.record("extract")
    assert len(np.load(other.feature("train", "labels"))) == 40
    assert made["config"]["weights"] == "run"
    weights = made["inputs"]["weights"]["path"]
    assert (other.path / weights).resolve() == (run / "pretrain/encoder.safetensors").resolve()
    assert json.loads(other.results("knn").read_text())["val_images"] == 360
    assert (run / "knn" / "results.json").read_bytes() == before
    code, out, _ = sslkit("compare", run)
    assert code == 0
    assert "k-NN on digits" in out
