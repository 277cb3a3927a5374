"""The batched linear probe against torch's own optimizer, scikit-learn, and its promises."""

import numpy as np
import pytest
import torch
from feature_blobs import blobs, in_memory
from torch.nn import functional as F

from sslkit import rng
from sslkit.errors import SslkitError
from sslkit.probes.classify.linear import fit, linear
from sslkit.probes.classify.linear_sweep import LinearSettings, hold_out

CPU = torch.device("cpu")


@pytest.mark.parametrize(("lr", "decay"), [(0.01, 0.0), (0.3, 0.01)])
def test_one_of_many_moves_as_it_would_alone(lr, decay):
    x, y = blobs(200, 4, 0)
    settings = LinearSettings([0.01, 0.3, 30.0], [0.0, 0.01], epochs=6, batch_size=16)
    grid = settings.grid()
    heads = fit(in_memory(x, y), np.arange(200), 4, grid, settings, torch.zeros(12), torch.ones(12), CPU)
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
    sane = LinearSettings([0.01], [0.0], epochs=3, batch_size=16)
    wild = LinearSettings([0.01, 1e30], [0.0, 1e10], epochs=3, batch_size=16)
    zeros, ones = torch.zeros(12), torch.ones(12)
    alone = fit(in_memory(x, y), np.arange(160), 3, sane.grid(), sane, zeros, ones, CPU)
    beside = fit(in_memory(x, y), np.arange(160), 3, wild.grid(), wild, zeros, ones, CPU)
    torch.testing.assert_close(beside.weight[0], alone.weight[0])
    assert not torch.isfinite(beside.weight[3]).all()
    found = linear(in_memory(x, y), in_memory(x, y), wild)
    assert found.chosen["lr"] == 0.01
    assert found.sweep[3]["held_out_top1"] == 0


def test_accuracy_is_that_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    (x, y), (q, t) = blobs(1000, 5, 0, spread=0.6), blobs(500, 5, 1, spread=0.6)
    reference = 100 * LogisticRegression(max_iter=1000).fit(x, y).score(q, t)
    for standardize in (True, False):
        found = linear(in_memory(x, y), in_memory(q, t), LinearSettings(epochs=30, standardize=standardize))
        assert abs(found.top1 - reference) < 2
        assert abs(found.held_out_top1 - reference) < 8


def test_on_standardised_features_it_is_as_good_as_logistic_regression():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    # Features of very unequal sizes and offsets, which the scaler must even out before the penalty counts.
    size, offset = np.geomspace(0.01, 100, 12, dtype=np.float32), np.linspace(-5, 5, 12, dtype=np.float32)
    (x, y), (q, t) = blobs(1500, 6, 0, spread=0.5), blobs(1000, 6, 1, spread=0.5)
    x, q = x * size + offset, q * size + offset
    scaler = StandardScaler().fit(x)
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(scaler.transform(x), y)
    found = linear(in_memory(x, y), in_memory(q, t), LinearSettings(epochs=40))
    assert abs(found.top1 - 100 * reference.score(scaler.transform(q), t)) < 1.5
    # Not only as often right: the same answers.
    assert (found.predicted == reference.predict(scaler.transform(q))).mean() > 0.95


def test_standardizing_mends_features_that_are_not_centred():
    # MAE's: a large common offset and a small signal.
    (x, y), (q, t) = blobs(400, 3, 0, spread=0.2), blobs(200, 3, 1, spread=0.2)
    x, q = 0.01 * x + 3, 0.01 * q + 3
    x[:, 5] = q[:, 5] = 7  # a feature that never changes
    raw = linear(in_memory(x, y), in_memory(q, t), LinearSettings(epochs=10, standardize=False))
    mended = linear(in_memory(x, y), in_memory(q, t), LinearSettings(epochs=10))
    assert mended.top1 > 95 > raw.top1
    # The head that is handed out is one for raw features.
    predicted = (torch.from_numpy(q).double() @ mended.weight.double().T + mended.bias).argmax(1)
    assert abs(100 * float((predicted.numpy() == t).mean()) - mended.top1) < 1


def test_val_never_chooses():
    x, y = blobs(300, 3, 0)
    settings = LinearSettings(epochs=3)
    one, other = (linear(in_memory(x, y), in_memory(*blobs(100, 3, seed)), settings) for seed in (1, 2))
    assert one.sweep == other.sweep
    assert one.chosen == other.chosen
    assert torch.equal(one.weight, other.weight)


def test_the_same_twice_and_another_seed_differs():
    train, val = in_memory(*blobs(300, 3, 0)), in_memory(*blobs(100, 3, 1))
    one, same, other = (linear(train, val, LinearSettings(epochs=2, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one.weight, same.weight)
    assert one.sweep == same.sweep
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
    settings = LinearSettings([0.3, 0.003, 0.03], [0.0, 0.1], epochs=3, few=True)
    found = linear(in_memory(x, y), in_memory(x, y), settings)
    assert found.chosen == {"lr": 0.03, "weight_decay": 0.0}
    assert found.held_out_top1 is None
    assert found.sweep == [{**found.chosen, "held_out_top1": None}]
    assert found.images == 4
    assert found.top1 == 100
    # Two labels of one class are enough to choose by.
    x, y = np.concatenate([x, x[:1]]), np.array([0, 1, 2, 3, 0])
    chosen = linear(in_memory(x, y), in_memory(x, y), settings)
    assert chosen.held_out_top1 == 100
    assert len(chosen.sweep) == 6
    assert chosen.images == 5


def test_nothing_is_reported_of_a_probe_that_diverged():
    train = in_memory(*blobs(160, 3, 0))
    with pytest.raises(SslkitError, match="every setting of the linear probe diverged: try a smaller --lr"):
        linear(train, train, LinearSettings([1e30], [1e10], epochs=3, batch_size=16))
