"""``sslkit finetune``: what it writes, the same bytes however it is interrupted, and mistakes."""

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import read_npz
from safetensors.torch import load_file

from sslkit.data import shards
from sslkit.data.class_balanced import share
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.finetuning.finetune import FineTune
from stages.contract.layout import Run

CPU = torch.device("cpu")
SPEC = EncoderSpec("vit_tiny_patch16_224", 32, 8, width=24, depth=3, heads=3)
QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]
SHORT = ["--epochs", "2", "--batch-size", "16", "--lr", "0.01"]


def call(*words: object) -> int:
    """The command line in this process, for fixtures that live longer than a test."""
    from stages import cli

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["sslkit", *map(str, words)])
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def model(trained_run, shapes_run, tmp_path) -> Path:
    """A run of one's own with a trained encoder, on the prepared images."""
    return copied(trained_run, shapes_run, tmp_path / "run")


def copied(trained_run: Path, shapes_run: Path, run: Path) -> Path:
    shutil.copytree(trained_run / "pretrain", run / "pretrain")
    Run(run, shapes_run).remember_data()
    return run


@pytest.fixture(scope="module")
def tuned(trained_run, shapes_run, tmp_path_factory) -> Path:
    """A run that was fine-tuned without being disturbed."""
    run = copied(trained_run, shapes_run, tmp_path_factory.mktemp("tuned") / "run")
    assert call("finetune", run, *QUICK, *SHORT) == 0
    return run


def results(run: Path, folder: str = "finetune") -> dict:
    return json.loads((run / folder / "results.json").read_text())


def written(run: Path, folder: str = "finetune") -> list[bytes]:
    names = ("encoder.safetensors", "encoder.json", "head.safetensors", "predictions.npz", "results.json")
    return [(run / folder / name).read_bytes() for name in names]


def test_what_is_written(tuned, shapes_run):
    folder = tuned / "finetune"
    names = {"results.json", "predictions.npz", "encoder.safetensors", "encoder.json", "head.safetensors"}
    assert {p.name for p in folder.iterdir()} == {*names, "metrics.jsonl", "stage.json"}
    found = results(tuned)
    assert found["labels"] == 80
    assert found["val_images"] == 1000
    assert found["chosen"]["lr"] == 0.01
    with np.load(folder / "predictions.npz") as arrays:
        rows, labels, predicted = (arrays[name] for name in ("rows", "labels", "predicted"))
    assert rows.dtype == labels.dtype == predicted.dtype == np.int64
    assert rows.tolist() == list(range(1000))
    assert found["top1"] == 100 * float((labels == predicted).mean())


def test_the_fine_tuned_encoder_and_head_give_the_predictions_again(tuned, shapes_run, sslkit, tmp_path):
    folder = tuned / "finetune"
    code, _, err = sslkit(
        "extract", tmp_path / "again", "--data", shapes_run, "--weights", folder / "encoder.safetensors", *QUICK
    )
    assert code == 0, err
    features = torch.from_numpy(np.load(tmp_path / "again" / "features" / "val" / "cls.npy"))
    head = load_file(folder / "head.safetensors")
    predicted = (features @ head["weight"].T + head["bias"]).argmax(1)
    assert predicted.tolist() == read_npz(folder / "predictions.npz")["predicted"].tolist()
    assert json.loads((folder / "encoder.json").read_text())["branch"] == "student"


def test_workers_change_no_byte_and_again_is_up_to_date(tuned, model, sslkit):
    assert sslkit("finetune", model, *QUICK, *SHORT, "--workers", "1")[0] == 0
    assert written(model) == written(tuned)
    code, out, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 0
    assert "up to date" in err
    assert "fine-tuned top-1" in out
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT, "--smoothing", "0")
    assert code == 1
    assert "smoothing was 0.1, now 0.0" in err


def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(tuned, model, sslkit, monkeypatch):
    honest = FineTune.after_step

    def terminated(self, statistics, at):
        honest(self, statistics, at)
        if at.step == 4:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(FineTune, "after_step", terminated)
        code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 128 + signal.SIGTERM
    assert "rerun the same command to resume" in err
    assert (model / "finetune" / "checkpoint.pt").exists()
    assert not (model / "finetune" / "results.json").exists()
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 0
    assert "resuming at step 5 of 10" in err
    assert written(model) == written(tuned)
    steps = [json.loads(line)["step"] for line in (model / "finetune" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [5, 10]


def test_a_second_round_that_was_killed_goes_on(model, sslkit, monkeypatch):
    words = [*QUICK, *SHORT, "--epochs", "1", "--label-fraction", "0.5", "--self-train", "--confidence", "0.1"]
    folder, calls = "finetune-labels-0.5-self-train", []
    honest = FineTune.after_step

    def killed(self, statistics, at):
        honest(self, statistics, at)
        calls.append(at.step)
        if calls.count(1) == 2:  # of the second round
            raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(FineTune, "after_step", killed)
        assert sslkit("finetune", model, *words)[0] == 1
    assert sslkit("finetune", model, *words)[0] == 0
    gone_on = written(model, folder)
    assert sslkit("finetune", model, *words, "--force")[0] == 0
    assert written(model, folder) == gone_on
    found = results(model, folder)
    report = found["rounds"][0]["pseudo_labels"]
    assert (report["taken"], report["of"]) == (40, 40)
    assert [r["images"] for r in found["rounds"]] == [40, 80]
    assert 0 <= report["accuracy"] <= 100
    assert found["top1"] == found["rounds"][1]["top1"]


def test_no_label_but_those_of_the_fraction_counts(tuned, model, sslkit, monkeypatch):
    honest = shards.open_split
    train = honest(Run(model).data, "train").labels
    kept = share(train, 0.5, 0)
    assert np.bincount(train[kept]).tolist() == [4] * 10
    assert sslkit("finetune", model, *QUICK, *SHORT, "--label-fraction", "0.5")[0] == 0

    def unlabelled(folder, name):
        split = honest(folder, name)
        if name == "train":
            split.labels[np.setdiff1d(np.arange(len(split)), kept)] = -1
        return split

    monkeypatch.setattr(shards, "open_split", unlabelled)
    assert sslkit("finetune", model, *QUICK, *SHORT)[0] == 0
    assert written(model) == written(model, "finetune-labels-0.5")
    assert written(model) != written(tuned)


def test_frozen_weights_stay_to_the_bit(model, sslkit):
    assert sslkit("finetune", model, *QUICK, *SHORT, "--unfreeze", "1")[0] == 0
    before = load_file(model / "pretrain" / "encoder.safetensors")
    after = load_file(model / "finetune-unfreeze-1" / "encoder.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("blocks.1.", "norm.")) for name in moved)
    assert {"norm.weight", "blocks.1.attn.qkv.weight", "blocks.1.mlp.fc2.bias"} <= moved


def test_a_random_start_is_the_same_architecture_drawn_from_the_seed(model, sslkit):
    words = ["--from", "random", "--unfreeze", "0", "--epochs", "1", "--batch-size", "16", "--seed", "3"]
    assert sslkit("finetune", model, *QUICK, *words)[0] == 0
    folder = model / "finetune-random-unfreeze-0"
    torch.manual_seed(3)
    fresh = Encoder.from_info(json.loads((model / "pretrain" / "encoder.json").read_text()))
    found = load_file(folder / "encoder.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in fresh.model.state_dict().items())
    trained = load_file(model / "pretrain" / "encoder.safetensors")
    assert not torch.equal(found["blocks.0.attn.qkv.weight"], trained["blocks.0.attn.qkv.weight"])
    assert results(model, folder.name)["start"] == "random"


def test_other_data_than_the_runs_own_is_judged_below_on(tuned, model, shapes_run, sslkit, tmp_path):
    shutil.copytree(shapes_run, tmp_path / "other")
    assert sslkit("finetune", model, *QUICK, *SHORT, "--data", tmp_path / "other")[0] == 0
    assert written(model / "on" / "other") == written(tuned)
    assert not (model / "finetune").exists()


def test_held_out_train_chooses_and_val_does_not(model, sslkit, monkeypatch):
    words = ["--epochs", "2", "--batch-size", "16", "--lr", "0.01", "--lr", "1e-7", "--early-stop"]
    assert sslkit("finetune", model, *QUICK, *words)[0] == 0
    found = results(model)
    assert [row["lr"] for row in found["sweep"]] == [1e-7, 0.01]
    best = max(found["sweep"], key=lambda row: row["held_out_top1"])
    assert found["chosen"] == {key: best[key] for key in ("lr", "share_of_run")}
    assert found["held_out_top1"] == best["held_out_top1"]
    assert found["labels"] == 80
    looked = (model / "finetune" / "sweep" / "lr-0.01" / "metrics.jsonl").read_text()
    assert looked.count("held_out_top1") == 2  # once an epoch
    steps = [json.loads(line)["step"] for line in (model / "finetune" / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == round(10 * best["share_of_run"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--unfreeze", "9"], 2, "--unfreeze 9: vit_tiny_patch16_224 has only 2 blocks here"),
        (["--weights", "pixels"], 2, "--weights pixels: there is nothing to fine-tune"),
        (["--label-fraction", "0"], 2, "--label-fraction 0.0: must be above 0 and at most 1"),
        (["--self-train"], 2, "--self-train: every train image has its label; give --label-fraction"),
        (["--from", "random", "--weights", "random"], 2, "--from random uses the run's own architecture"),
        (["--pool", "mean", "--weights", "random", "--arch", "resnet18"], 2, "resnet18 has no patch tokens"),
        (["--label-fraction", "0.01", "--early-stop"], 1, "none can be held out to choose by"),
        (["--lr", "0"], 2, "--lr 0: must be above 0"),
        (["--epochs", "0"], 2, "--epochs 0: must be above 0"),
        (["--confidence", "0.5"], 2, "--confidence requires --self-train"),
        (["--layer-decay", "0"], 2, "--layer-decay 0: must be above 0 and at most 1"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_what_was_there(model, sslkit, words, code, message):
    older = model / "finetune" / "results.json"
    older.parent.mkdir()
    older.write_text("{}")
    got, out, err = sslkit("finetune", model, *QUICK, *words, "--force")
    last = err.strip().splitlines()[-1]
    assert (got, out) == (code, "")
    assert message in last
    assert last.startswith("sslkit: ")
    assert [path.name for path in model.glob("finetune*/*")] == ["results.json"]


def test_a_single_step_trains_and_says_that_it_is_one(model, sslkit):
    code, _, err = sslkit("finetune", model, "--epochs", "1", "--batch-size", "80", "--ema", "0", *QUICK)
    assert code == 0
    assert "only 1 step: " in err
    head = load_file(model / "finetune" / "head.safetensors")
    assert head["bias"].abs().min() > 1e-5
    before, after = (load_file(path) for path in (Run(model).encoder, model / "finetune" / "encoder.safetensors"))
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("qkv.weight"))


def test_a_training_that_diverges_says_what_to_try(model, sslkit):
    code, out, err = sslkit("finetune", model, *QUICK, "--lr", "1e30", "--epochs", "6", "--batch-size", "16")
    assert (code, out) == (1, "")
    assert "lower --lr, lengthen the warm-up" in err.strip().splitlines()[-1]


def test_images_without_labels_are_refused(model, sslkit, monkeypatch):
    honest = shards.open_split

    def unlabelled(folder, name):
        split = honest(folder, name)
        split.labels[:] = -1
        return split

    monkeypatch.setattr(shards, "open_split", unlabelled)
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 1
    assert "has no labels in train or val: prepare from class folders" in err
    assert not (model / "finetune").exists()
