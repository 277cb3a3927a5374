"""Fine-tuning: what moves and how fast, whose labels count, the same bytes whatever happens, mistakes that are said."""

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sslkit.data import labels as few
from sslkit.data.loader import batches
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.order import Order
from sslkit.data.shards import Split
from sslkit.data.views import ViewMaker
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.methods.base import DataFacts
from sslkit.optimizers import base as optim
from sslkit.probes.finetuning import finetune as library
from sslkit.probes.finetuning.finetune import (
    FineTune,
    Settings,
    expect_imagenet_statistics,
    momentum,
    recipe_for,
    settings,
)
from sslkit.probes.finetuning.prediction import Classifier, Judged, Picked, predict
from sslkit.probes.finetuning.pseudo_labels import confident
from sslkit.schedules import Moment
from sslkit.weights import read, write
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


def method(about: Settings, start: Encoder | None = None, samples: int = 16) -> FineTune:
    torch.manual_seed(0)
    start = start or Encoder(SPEC)
    recipe = recipe_for(about, start.spec, about.lr[0], samples, "fp32", 0)
    return FineTune(recipe, DataFacts(samples, 3), start, about)


def test_layers_decay_as_in_the_papers():
    tuned = method(Settings(layer_decay=0.5))
    factors = tuned.rate_factors()
    # Naively, by the names that timm gives: embeddings four layers below the norm, then three blocks.
    for name, parameter in tuned.encoder.model.named_parameters():
        power = {
            "cls_token": 4,
            "pos_embed": 4,
            "patch_embed": 4,
            "blocks.0": 3,
            "blocks.1": 2,
            "blocks.2": 1,
            "norm": 0,
        }
        depth = next(value for prefix, value in power.items() if name.startswith(prefix))
        assert factors[parameter] == 0.5**depth, name
    optimizer = optim.build(tuned, tuned.recipe.optim, factors)
    optim.schedule(optimizer, tuned.recipe.optim, 256, Moment(5, 10, 10))
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    full = rate[tuned.classifier.weight]
    assert 0 < full == rate[tuned.encoder.model.norm.weight] and tuned.encoder.mask_token not in rate
    assert rate[tuned.encoder.model.blocks[1].mlp.fc1.bias] == pytest.approx(full / 4)
    assert decay[tuned.encoder.model.blocks[1].mlp.fc1.bias] == 0 < decay[tuned.encoder.model.blocks[1].mlp.fc1.weight]


@pytest.mark.parametrize(("blocks", "moving"), [(0, set()), (1, {"blocks.2", "norm"}), (3, {"blocks", "norm"})])
def test_only_the_last_blocks_are_unfrozen(blocks, moving):
    tuned = method(Settings(unfreeze=blocks, drop_path=0.2))
    for name, parameter in tuned.encoder.model.named_parameters():
        assert parameter.requires_grad == any(name.startswith(prefix) for prefix in moving), name
    assert tuned.classifier.weight.requires_grad
    assert [rate > 0 for rate in tuned.encoder.drop_rates] == [i >= 3 - blocks and i > 0 for i in (0, 0, 1, 1, 2, 2)]


def test_the_average_follows_its_formula():
    tuned = method(Settings(ema=0.4))
    parameter = tuned.classifier.bias
    expected, value = torch.zeros(3), torch.zeros(3)
    for step in range(6):
        value = value + step + 1
        parameter.data.copy_(value)
        tuned.after_step({}, Moment(step, 10, 1))
        share = min(0.4, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * value
    assert torch.allclose(tuned.judged().head.bias, expected)
    assert momentum(0.4, 0) == 0.1 and momentum(0.4, 1000) == 0.4
    assert method(Settings(ema=0)).judged().head is not None and method(Settings(ema=0)).averaged is None


def test_other_statistics_of_pixels_go_into_the_patch_embedding():
    encoder, mean, std = Encoder(SPEC).eval(), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
    pixels = torch.rand(2, 3, 32, 32)
    a, b, c, d = (torch.tensor(v)[:, None, None] for v in (mean, std, IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        before = encoder((pixels - a) / b).cls
        expect_imagenet_statistics(encoder, mean, std)
        assert torch.allclose(encoder((pixels - c) / d).cls, before, atol=1e-4)


def test_pools():
    encoder = Encoder(SPEC).eval()
    head, images = nn.Linear(24, 2), torch.randn(2, 3, 32, 32)
    tokens = encoder(images)
    assert tokens.patches is not None
    assert torch.equal(Classifier(encoder, head, "cls")(images), head(tokens.cls))
    assert torch.equal(Classifier(encoder, head, "mean")(images), head(tokens.patches.mean(1)))


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_head_and_loss_are_float32_under_bf16(pool):
    from sslkit.device import autocast

    tuned, seen = method(Settings(mixup=0, cutmix=0, ema=0.5, pool=pool)), []
    for classifier in (tuned.live, tuned.judged()):
        nn.init.normal_(classifier.head.weight)
        classifier.head.register_forward_hook(lambda head, given, logits: seen.append((head, given[0], logits)))
        with autocast(CPU, "bf16"):
            classifier(torch.randn(4, 3, 32, 32))
    views = ViewMaker(tuned.recipe.views, 32, 8, 0)
    images = Picked(Noise(), np.arange(4), np.array([0, 1, 2, 0]))
    batch = next(batches(images, views, Order(samples=4, batch_size=4, seed=0), 0, 1, 0, False))
    with autocast(CPU, "bf16"):
        found = tuned(batch, Moment(0, 1, 1))
    assert len(seen) == 3 and found.loss.dtype == torch.float32
    for head, given, logits in seen:
        assert given.dtype == logits.dtype == torch.float32
        assert torch.equal(logits, nn.functional.linear(given, head.weight, head.bias))  # no product in 8 bits


class Noise:
    """Images of one size."""

    labels = np.zeros(4, np.int64)

    def __len__(self):
        return 4

    def image(self, i):
        return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))

    def object_mask(self, i):
        return None


def test_only_confident_predictions_become_labels():
    judged = Judged(np.array([2, 0, 1, 1]), np.array([0.95, 0.5, 0.9, 0.99], np.float32), np.zeros(4, np.int64))
    found = confident(judged, np.array([3, 5, 8, 9]), np.array([2, 0, 0, -1]), 0.9)
    # float32(0.9) is what 0.9 is in float32: the threshold itself counts.
    assert found.rows.tolist() == [3, 8, 9] and found.labels.tolist() == [2, 1, 1]
    assert found.report == {"taken": 3, "of": 4, "confidence": 0.9, "accuracy": 50.0}
    assert confident(judged, np.arange(4), np.full(4, -1), 0.99).report["accuracy"] is None


def test_defaults_suit_the_images_and_the_start():
    small, large = settings(32, False, False), settings(224, False, False)
    assert (small.lr, small.batch_size, small.mixup) == ((4e-3,), 64, 0)
    assert (large.lr, large.batch_size, large.mixup) == ((1e-3,), 256, 0.8)
    assert settings(32, True, False).layer_decay == 1 and settings(32, True, False, layer_decay=0.7).layer_decay == 0.7
    assert settings(224, False, True).smoothing == settings(224, False, True).cutmix == 0
    # Few labels need many passes: never fewer than 500 steps unless epochs are named.
    assert recipe_for(small, SPEC, 1e-3, 100, "fp32", 0).train.epochs == 500
    assert recipe_for(small, SPEC, 1e-3, 10_000, "fp32", 0).train.epochs == 20
    assert recipe_for(settings(32, False, False, epochs=3), SPEC, 1e-3, 100, "fp32", 0).train.epochs == 3


def test_what_is_written(tuned, shapes_run):
    folder = tuned / "finetune"
    names = {"results.json", "predictions.npz", "encoder.safetensors", "encoder.json", "head.safetensors"}
    assert {p.name for p in folder.iterdir()} == {*names, "metrics.jsonl", "stage.json"}
    found = results(tuned)
    assert found["labels"] == 80 and found["val_images"] == 1000 and found["chosen"]["lr"] == 0.01
    with np.load(folder / "predictions.npz") as arrays:
        rows, labels, predicted = (arrays[name] for name in ("rows", "labels", "predicted"))
    assert rows.dtype == labels.dtype == predicted.dtype == np.int64 and rows.tolist() == list(range(1000))
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
    assert predicted.tolist() == np.load(folder / "predictions.npz")["predicted"].tolist()
    assert json.loads((folder / "encoder.json").read_text())["branch"] == "student"


def test_workers_change_no_byte_and_again_is_up_to_date(tuned, model, sslkit):
    assert sslkit("finetune", model, *QUICK, *SHORT, "--workers", "1")[0] == 0
    assert written(model) == written(tuned)
    code, out, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 0 and "up to date" in err and "fine-tuned top-1" in out
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT, "--smoothing", "0")
    assert code == 1 and "smoothing was 0.1, now 0.0" in err


def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(tuned, model, sslkit, monkeypatch):
    honest = FineTune.after_step

    def terminated(self, statistics, at):
        honest(self, statistics, at)
        if at.step == 4:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(FineTune, "after_step", terminated)
        code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 128 + signal.SIGTERM and "rerun the same command to resume" in err
    assert (model / "finetune" / "checkpoint.pt").exists() and not (model / "finetune" / "results.json").exists()
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 0 and "resuming at step 5 of 10" in err
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
    assert (report["taken"], report["of"]) == (40, 40) and [r["images"] for r in found["rounds"]] == [40, 80]
    assert 0 <= report["accuracy"] <= 100 and found["top1"] == found["rounds"][1]["top1"]


def test_self_training_never_labels_a_val_image_and_stops_when_nothing_is_sure(model, sslkit, monkeypatch):
    seen = []
    honest = Picked.__init__

    def noted(self, images: Split, rows: np.ndarray, labels: np.ndarray) -> None:
        seen.append((images.name, bool((labels >= 0).all())))
        honest(self, images, rows, labels)

    monkeypatch.setattr(Picked, "__init__", noted)
    words = ["--label-fraction", "0.5", "--self-train", "--confidence", "1", "--epochs", "1", "--batch-size", "16"]
    code, _, err = sslkit("finetune", model, *QUICK, *words)
    assert code == 0 and "no prediction reaches --confidence 1" in err
    assert len(results(model, "finetune-labels-0.5-self-train")["rounds"]) == 1
    # Of val only the one set that is judged; the images to be labelled come without labels.
    assert [all_known for name, all_known in seen if name == "val"] == [True]
    assert ("train", False) in seen


def test_no_label_but_those_of_the_fraction_counts(model, sslkit, monkeypatch):
    from sslkit.data import shards

    words = [*QUICK, *SHORT, "--label-fraction", "0.5"]
    honest = shards.open_split
    train = honest(Run(model).data, "train").labels
    kept = few.share(train, 0.5, 0)
    assert np.bincount(train[kept]).tolist() == [4] * 10
    assert sslkit("finetune", model, *words)[0] == 0
    before = written(model, "finetune-labels-0.5")

    def garbled(folder, name):
        split = honest(folder, name)
        others = np.setdiff1d(np.arange(len(split)), kept)
        if name == "train":
            split.labels[others] = 9 - split.labels[others]
        return split

    monkeypatch.setattr(shards, "open_split", garbled)
    monkeypatch.setattr(few, "share", lambda labels, fraction, seed: kept)
    assert sslkit("finetune", model, *words, "--force")[0] == 0
    assert written(model, "finetune-labels-0.5") == before
    kept[:] = np.roll(kept, 1) + 1  # and these do count
    kept.clip(0, 79, out=kept)
    assert sslkit("finetune", model, *words, "--force")[0] == 0
    assert written(model, "finetune-labels-0.5") != before


def test_frozen_weights_stay_to_the_bit(model, sslkit):
    assert sslkit("finetune", model, *QUICK, *SHORT, "--unfreeze", "1")[0] == 0
    before = load_file(model / "pretrain" / "encoder.safetensors")
    after = load_file(model / "finetune-unfreeze-1" / "encoder.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(("blocks.1.", "norm.")) for name in moved)
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
    assert written(model / "on" / "other") == written(tuned) and not (model / "finetune").exists()


def test_held_out_train_chooses_and_val_does_not(model, sslkit, monkeypatch):
    words = ["--epochs", "2", "--batch-size", "16", "--lr", "0.01", "--lr", "1e-7", "--early-stop"]
    assert sslkit("finetune", model, *QUICK, *words)[0] == 0
    found = results(model)
    assert [row["lr"] for row in found["sweep"]] == [1e-7, 0.01]
    best = max(found["sweep"], key=lambda row: row["held_out_top1"])
    assert found["chosen"] == {key: best[key] for key in ("lr", "share_of_run")}
    assert found["held_out_top1"] == best["held_out_top1"] and found["labels"] == 80
    looked = (model / "finetune" / "sweep" / "lr-0.01" / "metrics.jsonl").read_text()
    assert looked.count("held_out_top1") == 2  # once an epoch
    steps = [json.loads(line)["step"] for line in (model / "finetune" / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == round(10 * best["share_of_run"])


def test_predictions_come_in_order_and_know_what_is_unlabelled():
    class Images:
        labels = np.array([1, -1, 0] * 50)

        def __len__(self):
            return 150

        def image(self, i):
            return torch.full((3, 32, 32), i, dtype=torch.uint8)

        def object_mask(self, i):
            return None

    torch.manual_seed(0)
    classifier = Classifier(Encoder(SPEC), nn.Linear(24, 3), "cls")
    found = predict(classifier, Images(), CPU, "fp32")
    alone = predict(classifier, Picked(Images(), np.array([140]), np.array([0])), CPU, "fp32")
    assert found.predicted[140] == alone.predicted[0] and found.confidence[140] == pytest.approx(alone.confidence[0])
    assert found.ranks[140] == alone.ranks[0] and (found.ranks[1::3] == -1).all()
    known = Images.labels >= 0
    right = (found.predicted == Images.labels)[known].mean()
    assert found.top(1) == pytest.approx(100 * right) and found.top(3) == 100 and classifier.training


def test_models_without_cls_or_blocks(tmp_path):
    spec = EncoderSpec("vit_base_patch16_siglip_gap_224", 32, 16, width=24, depth=1, heads=3)
    pooled = method(Settings(mixup=0, cutmix=0), Encoder(spec))
    assert pooled.judged()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(library.UsageError, match="has no CLS token; try --pool mean"):
        method(Settings(pool="cls"), Encoder(spec))
    resnet = Encoder(EncoderSpec("resnet18", 32))
    assert method(Settings(), resnet).rate_factors() == {}
    with pytest.raises(library.UsageError, match="--unfreeze counts blocks of a ViT"):
        method(Settings(unfreeze=0), resnet)
    with pytest.raises(library.UsageError, match="no patch tokens"):
        method(Settings(pool="mean"), resnet)
    write.save_encoder(pooled.exported()[0], tmp_path / "e.safetensors", tmp_path / "e.json", "student")
    assert not read.load_encoder(tmp_path / "e.safetensors", tmp_path / "e.json").has_cls


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--unfreeze", "9"], 2, "--unfreeze 9: vit_tiny_patch16_224 has 2 blocks here"),
        (["--weights", "pixels"], 2, "--weights pixels: there is nothing to fine-tune"),
        (["--label-fraction", "0"], 2, "--label-fraction 0.0: it is above 0 and at most 1"),
        (["--self-train"], 2, "--self-train: every train image has its label; give --label-fraction"),
        (["--from", "random", "--weights", "random"], 2, "--from random is the run's own architecture"),
        (["--pool", "mean", "--weights", "random", "--arch", "resnet18"], 2, "resnet18 has no patch tokens"),
        (["--label-fraction", "0.01", "--early-stop"], 1, "none can be held out to choose by"),
        (["--lr", "0"], 2, "--lr 0: it is above 0"),
        (["--epochs", "0"], 2, "--epochs 0: it is above 0"),
        (["--confidence", "0.5"], 2, "--confidence 0.5 is of the predictions that --self-train takes"),
        (["--layer-decay", "0"], 2, "--layer-decay 0: it is above 0"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_what_was_there(model, sslkit, words, code, message):
    older = model / "finetune" / "results.json"
    older.parent.mkdir()
    older.write_text("{}")
    got, out, err = sslkit("finetune", model, *QUICK, *words, "--force")
    last = err.strip().splitlines()[-1]
    assert (got, out) == (code, "") and message in last and last.startswith("sslkit: ")
    assert [path.name for path in model.glob("finetune*/*")] == ["results.json"]


def test_a_single_step_trains_and_says_that_it_is_one(model, sslkit):
    code, _, err = sslkit("finetune", model, "--epochs", "1", "--batch-size", "80", "--ema", "0", *QUICK)
    assert code == 0 and "only 1 step: " in err
    head = load_file(model / "finetune" / "head.safetensors")
    assert head["bias"].abs().min() > 1e-5
    before, after = (load_file(path) for path in (Run(model).encoder, model / "finetune" / "encoder.safetensors"))
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("qkv.weight"))


def test_a_training_that_diverges_says_what_to_try(model, sslkit):
    code, out, err = sslkit("finetune", model, *QUICK, "--lr", "1e30", "--epochs", "6", "--batch-size", "16")
    assert (code, out) == (1, "") and "lower --lr, lengthen the warm-up" in err.strip().splitlines()[-1]


def test_several_processes_are_refused(model, sslkit, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 2 and "start it without torchrun" in err


def test_images_without_labels_are_refused(model, sslkit, monkeypatch):
    from sslkit.data import shards

    honest = shards.open_split

    def unlabelled(folder, name):
        split = honest(folder, name)
        split.labels[:] = -1
        return split

    monkeypatch.setattr(shards, "open_split", unlabelled)
    code, _, err = sslkit("finetune", model, *QUICK, *SHORT)
    assert code == 1 and "has no labels in train or val: prepare from class folders" in err
    assert not (model / "finetune").exists()
