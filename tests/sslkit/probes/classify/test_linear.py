"""The batched linear probe against torch's own optimizer, scikit-learn, and its promises."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import write_features
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.labels import share
from sslkit.errors import SslkitError
from sslkit.probes.classify.linear import Settings, fit, hold_out, linear
from sslkit.probes.features.features import Features, open_features

CPU = torch.device("cpu")


def blobs(count: int, classes: int, seed: int, width: int = 12, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return (spread * random.normal(size=(count, width)) + np.eye(classes, width)[labels]).astype(np.float32), labels


def split(features: np.ndarray, labels: np.ndarray) -> Features:
    rows = np.flatnonzero(labels >= 0)
    return Features(Path("cls.npy"), (features,), labels[rows], rows)


@pytest.mark.parametrize(("lr", "decay"), [(0.01, 0.0), (0.3, 0.01)])
def test_one_of_many_moves_as_it_would_alone(lr, decay):
    x, y = blobs(200, 4, 0)
    settings = Settings([0.01, 0.3, 30.0], [0.0, 0.01], epochs=6, batch_size=16)
    grid = settings.grid()
    heads = fit(split(x, y), np.arange(200), 4, grid, settings, torch.zeros(12), torch.ones(12), CPU)
    # Torch's optimizer, one setting, its own autograd.
    alone = torch.nn.Linear(12, 4)
    torch.nn.init.zeros_(alone.weight)
    torch.nn.init.zeros_(alone.bias)
    groups = [{"params": [alone.weight], "weight_decay": decay}, {"params": [alone.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr * 16 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6 * (200 // 16))
    for epoch in range(6):
        order = rng.generator(0, "linear/order", epoch).permutation(200)
        for start in range(0, 192, 16):
            index = order[start : start + 16]
            optimizer.zero_grad()
            F.cross_entropy(alone(torch.from_numpy(x[index])), torch.from_numpy(y[index])).backward()
            optimizer.step()
            schedule.step()
    which = grid.index((lr, decay))
    torch.testing.assert_close(heads.weight[which], alone.weight.data, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(heads.bias[which], alone.bias.data, rtol=1e-4, atol=1e-6)


def test_a_setting_that_diverges_spoils_no_other():
    x, y = blobs(160, 3, 0)
    sane = Settings([0.01], [0.0], epochs=3, batch_size=16)
    wild = Settings([0.01, 1e30], [0.0, 1e10], epochs=3, batch_size=16)
    zeros, ones = torch.zeros(12), torch.ones(12)
    alone = fit(split(x, y), np.arange(160), 3, sane.grid(), sane, zeros, ones, CPU)
    beside = fit(split(x, y), np.arange(160), 3, wild.grid(), wild, zeros, ones, CPU)
    torch.testing.assert_close(beside.weight[0], alone.weight[0])
    assert not torch.isfinite(beside.weight[3]).all()
    found = linear(split(x, y), split(x, y), wild)
    assert found.chosen["lr"] == 0.01 and found.sweep[3]["held_out_top1"] == 0


def test_accuracy_is_that_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    (x, y), (q, t) = blobs(1000, 5, 0, spread=0.6), blobs(500, 5, 1, spread=0.6)
    reference = 100 * LogisticRegression(max_iter=1000).fit(x, y).score(q, t)
    for standardize in (True, False):
        found = linear(split(x, y), split(q, t), Settings(epochs=30, standardize=standardize))
        assert abs(found.top1 - reference) < 2 and abs(found.held_out_top1 - reference) < 8


def test_on_standardised_features_it_is_as_good_as_logistic_regression():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    # Features of very unequal sizes and offsets, which the scaler must even out before the penalty counts.
    size, offset = np.geomspace(0.01, 100, 12, dtype=np.float32), np.linspace(-5, 5, 12, dtype=np.float32)
    (x, y), (q, t) = blobs(1500, 6, 0, spread=0.5), blobs(1000, 6, 1, spread=0.5)
    x, q = x * size + offset, q * size + offset
    scaler = StandardScaler().fit(x)
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(scaler.transform(x), y)
    found = linear(split(x, y), split(q, t), Settings(epochs=40))
    assert abs(found.top1 - 100 * reference.score(scaler.transform(q), t)) < 1.5
    # Not only as often right: the same answers.
    assert (found.predicted == reference.predict(scaler.transform(q))).mean() > 0.95


def test_standardizing_mends_features_that_are_not_centred():
    # MAE's: a large common offset and a small signal.
    (x, y), (q, t) = blobs(400, 3, 0, spread=0.2), blobs(200, 3, 1, spread=0.2)
    x, q = 0.01 * x + 3, 0.01 * q + 3
    x[:, 5] = q[:, 5] = 7  # a feature that never changes
    raw = linear(split(x, y), split(q, t), Settings(epochs=10, standardize=False))
    mended = linear(split(x, y), split(q, t), Settings(epochs=10))
    assert mended.top1 > 95 > raw.top1
    # The head that is handed out is one for raw features.
    predicted = (torch.from_numpy(q).double() @ mended.weight.double().T + mended.bias).argmax(1)
    assert abs(100 * float((predicted.numpy() == t).mean()) - mended.top1) < 1


def test_val_never_chooses():
    x, y = blobs(300, 3, 0)
    settings = Settings(epochs=3)
    one, other = (linear(split(x, y), split(*blobs(100, 3, seed)), settings) for seed in (1, 2))
    assert one.sweep == other.sweep and one.chosen == other.chosen
    assert torch.equal(one.weight, other.weight)


def test_the_same_twice_and_another_seed_differs():
    train, val = split(*blobs(300, 3, 0)), split(*blobs(100, 3, 1))
    one, same, other = (linear(train, val, Settings(epochs=2, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one.weight, same.weight) and one.sweep == same.sweep
    assert not torch.equal(one.weight, other.weight)


def test_the_held_out_part_is_a_tenth_of_every_class():
    labels = np.repeat([0, 1, 7, 9], [100, 50, 3, 1])
    rest, held = hold_out(labels, 0.1, seed=0)
    assert sorted([*rest, *held]) == list(range(154))
    assert np.bincount(labels[held], minlength=10)[[0, 1, 7, 9]].tolist() == [10, 5, 1, 0]
    assert hold_out(labels[:153], 0.1, seed=0)[1].tolist() == held.tolist()
    assert hold_out(labels, 0.1, seed=1)[1].tolist() != held.tolist()
    with pytest.raises(SslkitError, match="one per class"):
        hold_out(np.arange(5), 0.1, seed=0)


def test_one_label_per_class_takes_the_middle_setting_where_labels_are_few():
    x, y = np.eye(4, 12, dtype=np.float32), np.arange(4)
    settings = Settings([0.3, 0.003, 0.03], [0.0, 0.1], epochs=3, few=True)
    found = linear(split(x, y), split(x, y), settings)
    assert found.chosen == {"lr": 0.03, "weight_decay": 0.0} and found.held_out_top1 is None
    assert found.sweep == [{**found.chosen, "held_out_top1": None}] and found.images == 4 and found.top1 == 100
    # Two labels of one class are enough to choose by.
    x, y = np.concatenate([x, x[:1]]), np.array([0, 1, 2, 3, 0])
    chosen = linear(split(x, y), split(x, y), settings)
    assert chosen.held_out_top1 == 100 and len(chosen.sweep) == 6 and chosen.images == 5


def test_nothing_is_reported_of_a_probe_that_diverged():
    train = split(*blobs(160, 3, 0))
    with pytest.raises(SslkitError, match="every setting of the linear probe diverged: try a smaller --lr"):
        linear(train, train, Settings([1e30], [1e10], epochs=3, batch_size=16))


def test_layers_and_patch_mean_are_joined_in_order(tmp_path):
    blocks = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    for name, array in {"blocks": blocks, "patch_mean": blocks[:, 0] - 1, "labels": np.array([1, 0])}.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [tmp_path / "blocks.npy", tmp_path / "patch_mean.npy"]
    features = open_features(files, tmp_path / "labels.npy", last=2)
    assert features.width == 12
    expected = np.concatenate([blocks[:, 1], blocks[:, 2], blocks[:, 0] - 1], 1)
    assert np.array_equal(features.take(np.array([1, 0])).numpy(), expected[::-1])
    with pytest.raises(SslkitError, match="last 3 blocks, not 4: extract with --last-blocks 4"):
        open_features(files, tmp_path / "labels.npy", last=4)


def test_command(tmp_path, sslkit):
    words = ("--epochs", 5, "--device", "cpu", "--json")
    for name in ("a", "b"):
        run = write_features(tmp_path / name, blobs(300, 3, 0, spread=0.3), blobs(60, 3, 1, spread=0.3))
        code, out, _ = sslkit("linear", run, *words)
        assert code == 0
    results = json.loads(out)
    assert results["top1"] > 90 and results["top5"] == 100 and len(results["sweep"]) == 20
    assert results["held_out_top1"] == max(row["held_out_top1"] for row in results["sweep"])
    assert results["features"] == "cls" and {"lr", "weight_decay"} == set(results["chosen"])
    head = safetensors.torch.load_file(tmp_path / "a/linear/head.safetensors")
    assert head["weight"].shape == (3, 12) and head["bias"].shape == (3,)
    saved, (x, labels) = np.load(tmp_path / "a/linear/predictions.npz"), blobs(60, 3, 1, spread=0.3)
    predicted = (torch.from_numpy(x) @ head["weight"].T + head["bias"]).argmax(1)
    assert saved["predicted"].tolist() == predicted.tolist() and saved["labels"].tolist() == labels.tolist()
    assert saved["rows"].tolist() == list(range(60))
    for file in ("results.json", "head.safetensors", "predictions.npz"):
        assert (tmp_path / "a/linear" / file).read_bytes() == (tmp_path / "b/linear" / file).read_bytes()


def test_few_labels_are_all_that_is_looked_at(tmp_path, sslkit):
    (x, y), val = blobs(300, 3, 0, spread=0.3), blobs(60, 3, 1, spread=0.3)
    kept = share(y, 0.1, 7)
    others = np.full(300, -1)
    others[kept] = y[kept]
    words = ("--epochs", 3, "--device", "cpu", "--seed", 7)
    run = write_features(tmp_path / "few", (x, y), val)
    assert sslkit("linear", run, *words, "--label-fraction", 0.1)[0] == 0
    results = json.loads((run / "linear-labels-0.1/results.json").read_text())
    assert results["train_images"] == len(kept) == 31 and results["label_fraction"] == 0.1
    assert not (run / "linear").exists()
    # As if the other images had no label at all.
    bare = write_features(tmp_path / "bare", (x, others), val)
    assert sslkit("linear", bare, *words)[0] == 0
    for file in ("head.safetensors", "predictions.npz"):
        assert (run / "linear-labels-0.1" / file).read_bytes() == (bare / "linear" / file).read_bytes()


def test_one_label_per_class_is_said(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(300, 3, 0, spread=0.3), blobs(60, 3, 1, spread=0.3))
    code, out, err = sslkit("linear", run, "--epochs", 2, "--label-fraction", 0.005, "--device", "cpu")
    assert code == 0 and "one label per class" in err and "the middle one, with no label to choose by" in out
    code, _, err = sslkit("linear", run, "--label-fraction", 1.5)
    assert code == 2 and "--label-fraction 1.5: it is above 0 and at most 1" in err and err.count("\n") == 1


def test_a_sweep_of_ones_own(tmp_path, sslkit):
    run = write_features(tmp_path, blobs(100, 3, 0), blobs(60, 3, 1))
    code, out, _ = sslkit("linear", run, "--lr", 0.1, "--lr", 1, "--weight-decay", 0, "--epochs", 2, "--json")
    assert code == 0 and [row["lr"] for row in json.loads(out)["sweep"]] == [0.1, 1.0]


@pytest.mark.parametrize(
    ("labels", "value", "words", "says"),
    [
        (np.full(60, -1), 0.0, [], "has no labels"),
        (np.full(60, 1), 0.0, [], "one class only (1)"),
        (np.arange(60) % 3, np.nan, [], "holds NaN"),
        (np.arange(60) % 3, np.nan, ["--no-standardize"], "holds NaN"),
        (np.arange(60), 0.0, [], "one per class"),
        (np.arange(60) % 3, 0.0, ["--layers", "4"], "blocks.npy is missing: run `sslkit extract"),
    ],
)
def test_bad_features_are_one_line(tmp_path, sslkit, labels, value, words, says):
    x, _ = blobs(60, 3, 0)
    x[3, 3] += value
    older = tmp_path / "linear" / "results.json"
    older.parent.mkdir()
    older.write_text("{}")
    run = write_features(tmp_path, (x, labels), blobs(30, 3, 1))
    code, out, err = sslkit("linear", run, "--epochs", 1, "--force", *words)
    assert code == 1 and not out and list(older.parent.iterdir()) == [older]
    assert says in err and err.count("\n") == 1, err
