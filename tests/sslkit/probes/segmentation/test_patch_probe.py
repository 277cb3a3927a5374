"""The probe on patches: what it learns, how much it keeps in memory, and how logits become pixels."""

import numpy as np
import pytest
import torch

from sslkit.errors import SslkitError
from sslkit.probes.segmentation import patch_probe
from sslkit.probes.segmentation.patch_probe import PatchCollector, PatchProbe, train_probe


def toy_patches(images: int, seed: int = 0) -> tuple[list[torch.Tensor], list[np.ndarray]]:
    """Tokens of 3 x 3 patches whose direction is their class, and counts of pixels with a minority in each patch."""
    draw = np.random.default_rng(seed)
    tokens, cells = [], []
    for _ in range(images):
        labels = draw.integers(0, 3, 9)
        tokens.append(torch.from_numpy(np.eye(4)[labels] * 3 + 5 + 0.3 * draw.normal(size=(9, 4))).float())
        count = np.eye(3, dtype=np.int64)[labels].T * 5
        count[0] += 2  # the background is in every patch
        count[:, 0] = 0  # and the first is void
        cells.append(count)
    return tokens, cells


def test_the_probe_learns_what_patches_show():
    collector = PatchCollector(20, 4, seed=0)
    for tokens, cells in zip(*toy_patches(20), strict=True):
        collector.add(tokens, cells)
    train = collector.gathered()
    assert train.features.shape == (20 * 8, 4)
    assert set(train.images) == set(range(20))
    probe = train_probe(train, 3, seed=0)
    assert probe.held_out_miou > 95
    assert probe.lr in {row["lr"] for row in probe.sweep}
    assert probe.held_out_miou == max(row["held_out_miou"] for row in probe.sweep)
    for tokens, cells in zip(*toy_patches(3, seed=1), strict=True):
        # At the patches' own size the answer is the class of each patch.
        assert np.array_equal(probe.predict(tokens, (3, 3), 3, 3).flatten()[1:], cells.argmax(0)[1:])
    again = train_probe(train, 3, seed=0)
    assert torch.equal(again.weight, probe.weight)
    with pytest.raises(SslkitError, match="have the same class"):
        train_probe(type(train)(train.features, train.labels * 0, train.images), 3, seed=0)


def test_memory_of_the_probe_is_bounded_and_every_photo_has_its_share(monkeypatch):
    def gathered(most: int, floats: int):
        monkeypatch.setattr(patch_probe, "MAX_PATCHES", most)
        monkeypatch.setattr(patch_probe, "MAX_FLOATS", floats)
        collector = PatchCollector(20, 4, seed=0)
        for tokens, cells in zip(*toy_patches(20), strict=True):
            collector.add(tokens, cells)
        found = collector.gathered()
        assert np.bincount(found.images).tolist() == [min(collector.most, 8)] * 20
        assert found.features.base is not None
        assert found.features.base.nbytes <= 4 * max(floats, 20 * 4)
        return collector.most, found

    whole, some = gathered(1000, 4000)[1], gathered(60, 4000)
    assert some[0] == 3
    assert gathered(60, 20 * 4 * 2)[0] == 2
    assert gathered(5, 5)[0] == 1
    tokens, cells = toy_patches(20)
    assert np.array_equal(whole.features, np.concatenate([rows[1:].numpy() for rows in tokens]))
    assert np.array_equal(whole.labels, np.concatenate([count.argmax(0)[1:] for count in cells]))
    # What is kept belongs together.
    pairs = {(*row, label) for row, label in zip(whole.features.tolist(), whole.labels.tolist(), strict=True)}
    kept = zip(some[1].features.tolist(), some[1].labels.tolist(), strict=True)
    assert all((*row, label) in pairs for row, label in kept)


def test_logits_are_upsampled_bilinearly_to_pixels():
    probe = PatchProbe(torch.eye(2), torch.zeros(2), 0.1, 0.0, [])
    tokens = torch.tensor([[1.0, 0.0], [0.0, 3.0]])  # between the two centres, logits cross at a quarter of the way
    assert probe.predict(tokens, (1, 2), 2, 8).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 2


def test_many_patches_are_thinned_alike_in_every_image(monkeypatch):
    monkeypatch.setattr("sslkit.probes.segmentation.patch_probe.MAX_PATCHES", 12)
    collector = PatchCollector(3, 4, seed=0)
    for tokens, cells in zip(*toy_patches(3), strict=True):
        collector.add(tokens, cells)
    assert np.bincount(collector.gathered().images).tolist() == [4, 4, 4]
