"""A micro-batch: where its parts go, and how much of each patch lies on the object."""

import numpy as np
import pytest
import torch

from sslkit.data.batch import Batch, patch_coverage


@pytest.fixture
def batch() -> Batch:
    parts = torch.arange(2), torch.zeros(2), [torch.zeros(2, 2, 3, 4, 4)], [torch.zeros(2, 2, 15)]
    return Batch(*parts, torch.ones(2, 2, 4, 4))


def test_pixels_labels_and_objects_move_and_draws_stay(batch):
    there = batch.to(torch.device("meta"))
    for moved in (there.labels, there.objects, *there.crops):
        assert moved.device.type == "meta"
    for kept in (there.samples, *there.photometric):
        assert kept.device.type == "cpu"


def test_pixels_and_objects_are_pinned(batch, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    assert batch.pin_memory().objects is batch.objects
    assert [id(tensor) for tensor in pinned] == [id(batch.objects), id(batch.crops[0])]


def test_a_batch_without_objects_stays_without(batch, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    plain = Batch(batch.samples, batch.labels, batch.crops, batch.photometric)
    assert plain.objects is None
    assert plain.pin_memory().objects is None
    assert plain.to(torch.device("meta")).objects is None


def test_patch_coverage_is_the_mean_over_each_patch():
    objects = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    objects[1, 2, :4, 4:8], objects[1, 2, 8:, 8:] = 255, 0
    coverage = patch_coverage(objects, 4)
    assert coverage.shape == (6, 9)
    assert coverage.dtype == torch.float32
    for view, sample, row, column in np.ndindex(2, 3, 3, 3):
        patch = objects[view, sample, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = sum(patch.flatten().tolist()) / 16 / 255
        assert abs(float(coverage[view * 3 + sample, row * 3 + column]) - expected) < 1e-6
    assert coverage[5, 1] == 1
    assert coverage[5, 8] == 0
