"""The linear probe on augmented crops against torch's own optimizer, and where its encoder comes from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.probes.classify.augmented_linear import (
    AugmentedCrops,
    PiecewiseOrder,
    augmented_linear,
    check_encoder,
    joined,
)
from sslkit.probes.classify.linear import statistics
from sslkit.probes.classify.linear_sweep import LinearSettings, hold_out
from sslkit.probes.features.extraction import EncoderEmbedding
from sslkit.probes.features.features import Features, open_features

CPU = torch.device("cpu")
TINY = EncoderSpec("vit_tiny_patch16_224", image_size=16, patch_size=8, width=12, depth=2, heads=3)


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


def crops_of(images: Noise, **options) -> AugmentedCrops:
    return AugmentedCrops(images, embedding(), ["cls"], **{"at_once": 7, **options})


def features_of(crops: AugmentedCrops) -> Features:
    """What ``extract`` writes; row 3 has no label."""
    pixels = torch.stack([evaluation_crop(crops.images.image(i), 16) for i in range(len(crops.images))])
    rows = np.delete(np.arange(len(pixels)), 3)
    return Features(Path("cls.npy"), (crops.encode(pixels).numpy(),), crops.images.labels[rows], rows)


def test_the_views_are_crops_and_flips_alone():
    maker = crops_of(Noise(1)).views(0)
    draws = np.concatenate([maker(Noise(1).image(0), epoch, 0)[1][0] for epoch in range(30)])
    # Jitter's strengths and the order are drawn all the same; what counts is whether an operation is on.
    assert not draws[:, [0, 6, 7, 8, 9, 11, 12]].any()
    assert maker.groups[0].scale == (0.08, 1.0)
    assert maker.groups[0].count == 1


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
    train, settings = features_of(crops), LinearSettings([0.3], [0.01], epochs=3, batch_size=8, seed=5)
    found = augmented_linear(train, train, crops, settings, CPU)
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
    crops, settings = crops_of(Noise(61)), LinearSettings(epochs=2, batch_size=8)
    train = features_of(crops)
    _, held = hold_out(train.labels, 0.1, 0)
    replaced = Noise(61)
    replaced.pixels[train.rows[held]] = 255
    monkeypatch.setattr("sslkit.probes.classify.augmented_linear.check_encoder", lambda train, crops: None)
    one, other = (
        augmented_linear(train, train, some, settings, CPU) for some in (crops, replace(crops, images=replaced))
    )
    assert torch.equal(one.weight, other.weight)
    assert one.sweep == other.sweep
    replaced.pixels[train.rows[np.setdiff1d(np.arange(60), held)[:5]]] = 255  # it would be seen
    assert not torch.equal(
        augmented_linear(train, train, replace(crops, images=replaced), settings, CPU).weight, one.weight
    )


def test_workers_change_nothing_and_another_seed_does():
    crops, settings = crops_of(Noise(61)), LinearSettings([0.1], [0.0], epochs=2)
    train = features_of(crops)
    lines: list[str] = []
    one = augmented_linear(train, train, crops, settings, CPU, report=lines.append)
    assert torch.equal(augmented_linear(train, train, replace(crops, workers=2), settings, CPU).weight, one.weight)
    assert not torch.equal(augmented_linear(train, train, crops, replace(settings, seed=1), CPU).weight, one.weight)
    assert len(lines) == 1
    assert lines[0].startswith(
        "linear: an epoch (a crop of 49 of the 54 images to learn from, in whole steps of 7) took"
    )


def test_features_of_another_encoder_are_refused():
    crops = crops_of(Noise(20))
    train = features_of(crops)
    check_encoder(train, crops)
    with pytest.raises(SslkitError, match="not what the encoder computes"):
        check_encoder(train, replace(crops, embedding=embedding(1)))
    with pytest.raises(SslkitError, match="not what the encoder computes"):
        check_encoder(train, replace(crops, images=Noise(20, seed=1)))
    with pytest.raises(SslkitError, match="20 rows, but train has 19 images"):
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
