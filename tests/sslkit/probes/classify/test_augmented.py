"""The linear probe on augmented crops against torch's own optimizer, and where its encoder comes from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.probes.classify.augmented_linear import SCALE, Crops, PiecewiseOrder, augmented, check_encoder, joined
from sslkit.probes.classify.linear import Settings, hold_out, statistics
from sslkit.probes.features.extraction import EncoderEmbedding
from sslkit.probes.features.features import Features, open_features

CPU = torch.device("cpu")
TINY = EncoderSpec("vit_tiny_patch16_224", image_size=16, patch_size=8, width=12, depth=2, heads=3)
QUICK = ("--device", "cpu", "--workers", 0)


class Noise:
    """Images of 20 x 24 pixels; those of class 1 are dark."""

    def __init__(self, count: int, seed: int = 0):
        self.labels = np.arange(count) % 2
        self.pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 20, 24), np.uint8)
        self.pixels[self.labels == 1] //= 4

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels[i])

    def object_mask(self, i: int) -> None:
        return None


def embedding(seed: int = 0) -> EncoderEmbedding:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EncoderEmbedding(FrozenEncoder(Encoder(TINY).eval(), TINY.image_size, CPU, "fp32"), None)


def crops_of(images: Noise, **options) -> Crops:
    return Crops(images, embedding(), ["cls"], **{"at_once": 7, **options})


def features_of(crops: Crops) -> Features:
    """What ``extract`` writes; row 3 has no label."""
    pixels = torch.stack([evaluation_crop(crops.images.image(i), 16) for i in range(len(crops.images))])
    rows = np.delete(np.arange(len(pixels)), 3)
    return Features(Path("cls.npy"), (crops.encode(pixels).numpy(),), crops.images.labels[rows], rows)


def test_the_views_are_crops_and_flips_alone():
    maker = crops_of(Noise(1)).views(0)
    draws = np.concatenate([maker(Noise(1).image(0), epoch, 0)[1][0] for epoch in range(30)])
    # Jitter's strengths and the order are drawn all the same; what counts is whether an operation is on.
    assert not draws[:, [0, 6, 7, 8, 9, 11, 12]].any()
    assert maker.groups[0].scale == SCALE == (0.08, 1.0) and maker.groups[0].count == 1


def test_pieces_make_up_the_batches_of_an_epoch():
    rows = np.arange(100, 123)
    order = PiecewiseOrder(len(rows), 10, seed=3, rows=rows, piece=4)
    found = list(order.micro_batches(0, 4))
    assert [epoch for epoch, _ in found] == [0] * 6 + [1] * 6
    assert [len(piece) for _, piece in found] == [4, 4, 2] * 4
    for epoch in (0, 1):
        expected = rows[rng.generator(3, "order", epoch).permutation(23)[:20]]
        assert np.concatenate([piece for e, piece in found if e == epoch]).tolist() == expected.tolist()


def test_the_head_moves_as_torch_would_move_it():
    crops = crops_of(Noise(61))
    train, settings = features_of(crops), Settings([0.3], [0.01], epochs=3, batch_size=8, seed=5)
    found = augmented(train, train, crops, settings, CPU)
    rest, held = hold_out(train.labels, 0.1, 5)
    mean, scale = statistics(train, True)
    views, alone = crops.views(5), torch.nn.Linear(12, 2)
    torch.nn.init.zeros_(alone.weight)
    torch.nn.init.zeros_(alone.bias)
    groups = [{"params": [alone.weight], "weight_decay": 0.01}, {"params": [alone.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.3 * 7 / 256, momentum=0.9)  # at most an eighth of 54 images per step
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * (54 // 7))
    for epoch in range(3):
        order = train.rows[rest][rng.generator(5, "order", epoch).permutation(54)]
        for start in range(0, 49, 7):
            some = order[start : start + 7].tolist()
            pixels = torch.stack([views(crops.images.image(i), epoch, i)[0][0][0] for i in some])
            optimizer.zero_grad()
            logits = alone((crops.encode(pixels) - mean) * scale)
            F.cross_entropy(logits, torch.from_numpy(crops.images.labels[some])).backward()
            optimizer.step()
            schedule.step()
    weight = alone.weight.data * scale
    torch.testing.assert_close(found.weight, weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.bias, alone.bias.data - weight @ mean, rtol=1e-3, atol=1e-4)
    assert (found.images, len(held)) == (54, 6)
    predicted = (train.take(held) @ found.weight.T + found.bias).argmax(1).numpy()
    assert found.held_out_top1 == pytest.approx(100 * (predicted == train.labels[held]).mean())


def test_crops_of_the_whole_image_are_the_features_on_disk():
    # Images of one colour: a flip changes nothing, so that every epoch shows the encoder what `extract` did.
    images = Noise(40)
    images.pixels[:] = np.random.default_rng(0).integers(0, 256, (40, 3, 1, 1), np.uint8)
    images.pixels = images.pixels[:, :, :16, :16].copy()
    crops = crops_of(images, scale=(1.0, 1.0))
    maker = crops.views(0)
    pixels = torch.stack([maker(images.image(i), 2, i)[0][0][0] for i in range(40)])
    train = features_of(crops)
    np.testing.assert_allclose(crops.encode(pixels).numpy()[train.rows], train.take(np.arange(39)).numpy(), atol=1e-5)


def test_what_is_chosen_by_is_never_learnt_from(monkeypatch):
    crops, settings = crops_of(Noise(61)), Settings(epochs=2, batch_size=8)
    train = features_of(crops)
    _, held = hold_out(train.labels, 0.1, 0)
    replaced = Noise(61)
    replaced.pixels[train.rows[held]] = 255
    monkeypatch.setattr("sslkit.probes.classify.augmented_linear.check_encoder", lambda train, crops: None)
    one, other = (augmented(train, train, some, settings, CPU) for some in (crops, replace(crops, images=replaced)))
    assert torch.equal(one.weight, other.weight) and one.sweep == other.sweep
    replaced.pixels[train.rows[np.setdiff1d(np.arange(60), held)[:5]]] = 255  # it would be seen
    assert not torch.equal(augmented(train, train, replace(crops, images=replaced), settings, CPU).weight, one.weight)


def test_workers_change_nothing_and_another_seed_does():
    crops, settings = crops_of(Noise(61)), Settings([0.1], [0.0], epochs=2)
    train = features_of(crops)
    lines: list[str] = []
    one = augmented(train, train, crops, settings, CPU, report=lines.append)
    assert torch.equal(augmented(train, train, replace(crops, workers=2), settings, CPU).weight, one.weight)
    assert not torch.equal(augmented(train, train, crops, replace(settings, seed=1), CPU).weight, one.weight)
    assert len(lines) == 1 and lines[0].startswith("linear: an epoch of 49 crops took")


def test_features_of_another_encoder_are_refused():
    crops = crops_of(Noise(20))
    train = features_of(crops)
    check_encoder(train, crops)
    with pytest.raises(SslkitError, match="not what the encoder makes"):
        check_encoder(train, replace(crops, embedding=embedding(1)))
    with pytest.raises(SslkitError, match="not what the encoder makes"):
        check_encoder(train, replace(crops, images=Noise(20, seed=1)))
    with pytest.raises(SslkitError, match="20 rows, and train has 19 images"):
        check_encoder(train, replace(crops, images=Noise(19)))


def test_arrays_are_joined_as_their_files_are(tmp_path):
    random = np.random.default_rng(0)
    found = {"blocks": random.normal(size=(5, 3, 4)), "patch_mean": random.normal(size=(5, 4))}
    found = {name: array.astype(np.float32) for name, array in found.items()}
    for name, array in {**found, "labels": np.arange(5)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [tmp_path / f"{name}.npy" for name in found]
    for layers in (1, 2, None):
        here = joined({name: torch.from_numpy(array) for name, array in found.items()}, list(found), layers)
        assert torch.equal(here, open_features(files, tmp_path / "labels.npy", layers).take(np.arange(5)))


# From here on: the command.


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_command(run, shapes_run, sslkit):
    words = ("linear", run, "--augment", "--layers", 2, "--patch-mean", "--data", shapes_run, *QUICK)
    code, out, err = sslkit(*words, "--epochs", 2, "--json")
    assert code == 0 and "linear: an epoch of" in err, err
    results = json.loads(out)
    assert results["augment"] and results["crop_scale"] == [0.08, 1.0] and len(results["sweep"]) == 20
    assert results["train_images"] + results["held_out_images"] == 80 and results["held_out_images"] == 10
    assert results["held_out_top1"] == max(row["held_out_top1"] for row in results["sweep"])
    folder = run / "linear-augment"
    assert json.loads((folder / "results.json").read_text()) == results and not (run / "linear").exists()
    head, saved = safetensors.torch.load_file(folder / "head.safetensors"), np.load(folder / "predictions.npz")
    files = [run / "features/val" / f"{name}.npy" for name in ("blocks", "patch_mean")]
    val = open_features(files, run / "features/val/labels.npy", 2)
    predicted = (val.take(np.arange(len(val))) @ head["weight"].T + head["bias"]).argmax(1).numpy()
    assert saved["predicted"].tolist() == predicted.tolist() and saved["rows"].tolist() == val.rows.tolist()
    assert saved["labels"].tolist() == val.labels.tolist()
    assert results["top1"] == pytest.approx(100 * (predicted == val.labels).mean())
    assert "up to date" in sslkit(*words, "--epochs", 2)[2]
    code, _, err = sslkit(*words, "--epochs", 3)
    assert code == 1 and "epochs was 2, now 3" in err


def test_the_scale_of_the_crops_is_a_setting(run, shapes_run, sslkit):
    words = ("linear", run, "--augment", "--epochs", 1, "--data", shapes_run, *QUICK, "--crop-scale")
    assert sslkit(*words, 0.5, 1)[0] == 0
    assert json.loads((run / "linear-augment/results.json").read_text())["crop_scale"] == [0.5, 1.0]
    code, _, err = sslkit(*words, 0.6, 1)
    assert code == 1 and "--force redoes it" in err
    code, _, err = sslkit(*words, 0.6, 0.5)
    assert code == 2 and "--crop-scale 0.6 0.5: two rising shares" in err and err.count("\n") == 1


def test_few_labels_and_crops_together(run, shapes_run, sslkit):
    words = (run, "--augment", "--label-fraction", 0.01, "--epochs", 1, "--data", shapes_run, *QUICK)
    code, out, err = sslkit("linear", *words, "--json")
    results = json.loads(out)
    assert code == 0 and "took the middle setting, lr 0.03" in err
    assert results["held_out_top1"] is None and results["train_images"] == 10 and results["held_out_images"] == 0
    assert (run / "linear-augment-labels-0.01/results.json").exists()


@pytest.mark.parametrize("kind", ["random", "file"])
def test_the_encoder_behind_the_features_is_built_again(trained_run, shapes_run, tmp_path, sslkit, kind):
    kept = trained_run / "pretrain/encoder.safetensors"
    like = {"random": ["--like", trained_run, "--weights", "random", "--seed", 3], "file": ["--weights", kept]}[kind]
    words = (tmp_path / "run", "--data", shapes_run, *QUICK)
    assert sslkit("extract", *words, *like, "--precision", "fp32")[0] == 0
    code, _, err = sslkit("linear", *words, "--augment", "--epochs", 1)
    assert code == 0, err  # the features on disk are compared with the encoder's


def test_other_data_is_judged_below_on(run, shapes_run, tmp_path, sslkit):
    # The run remembers `shapes_run`; the copy is other data.
    shutil.copytree(shapes_run, tmp_path / "other")
    (run / "data/reference.json").write_text(json.dumps({"run": str(shapes_run)}))
    words = (run, "--data", tmp_path / "other")
    assert sslkit("extract", *words, *QUICK, "--precision", "fp32")[0] == 0
    assert sslkit("linear", *words, "--augment", "--label-fraction", 0.5, "--epochs", 1, *QUICK)[0] == 0
    assert sslkit("knn", *words, "--shots", "1", "--draws", 2)[0] == 0
    assert {path.parent.name for path in (run / "on/other").glob("*/results.json")} == {
        "linear-augment-labels-0.5",
        "knn-shots",
    }


def refused(kind: str, run: Path, shapes_run: Path, sslkit) -> tuple[int, str]:
    """Break one thing; the exit code and the line that are expected."""
    if kind == "pixels":
        extract = ("extract", run, "--weights", "pixels", "--data", shapes_run, "--force", *QUICK)
        assert sslkit(*extract)[0] == 0
        return 2, "are raw pixels"
    if kind == "another program's":
        (run / "features/stage.json").unlink()
        return 2, "another program's"
    if kind == "changed":
        file = run / "pretrain/encoder.safetensors"
        file.write_bytes(file.read_bytes() + b"\0")
        return 1, "weights changed since the features"
    for name in ("encoder.safetensors", "encoder.json"):
        (run / "pretrain" / name).unlink()
    return 1, "encoder_info, weights changed since the features"


@pytest.mark.parametrize("kind", ["pixels", "another program's", "changed", "gone"])
def test_what_cannot_be_encoded_again_is_one_line(run, shapes_run, sslkit, kind):
    expected, says = refused(kind, run, shapes_run, sslkit)
    code, out, err = sslkit("linear", run, "--augment", "--epochs", 1, "--data", shapes_run, *QUICK)
    assert code == expected and not out
    assert says in err and err.count("\n") == 1, err
    assert not (run / "linear-augment").exists()
