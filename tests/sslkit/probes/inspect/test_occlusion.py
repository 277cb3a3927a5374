"""Occlusion: which patches are dropped first, what is left of the images, and the accuracy on it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sslkit import rng
from sslkit.errors import SslkitError
from sslkit.probes.inspect.occlusion import (
    OcclusionBatch,
    OcclusionSettings,
    area,
    balanced_rows,
    classify,
    curve,
    dropped,
    without,
)

COUNT = 16  # patches of 8 pixels in an image of 32


class OnePatch:
    """Right as long as it sees one patch of each image, which is also the most attended one."""

    patch_size = 8

    def __init__(self, patch: int, attends: bool = True):
        self.patch, self.attends = patch, attends
        self.images: list[Tensor] = []

    def logits(self, images: Tensor, keep: Tensor | None) -> Tensor:
        row, column = 8 * (self.patch // 4), 8 * (self.patch % 4)
        there = images[:, :, row : row + 8, column : column + 8].abs().sum((1, 2, 3)) > 0
        if keep is not None:
            there &= (keep == self.patch).any(1)
        self.images.append(images)
        return torch.stack([~there, there], 1).float()

    def salience(self, images: Tensor) -> Tensor | None:
        salience = torch.linspace(0, 0.1, COUNT).repeat(len(images), 1)
        salience[:, self.patch] = 0.5
        return salience if self.attends else None


def part(rows: int = 5, first: int = 0, objects: Tensor | None = None) -> OcclusionBatch:
    images = 1 + torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return OcclusionBatch(np.arange(first, first + rows), images, torch.ones(rows, dtype=torch.int64), objects)


SHARES = [0.0, 1 / 16, 0.5, 15 / 16]


@pytest.mark.parametrize("drop", ["pixels", "tokens"])
def test_salient_first_drops_the_decisive_patch_and_background_first_keeps_it(drop):
    hits = classify([part()], OnePatch(6), OcclusionSettings(SHARES, 2, drop))
    assert {kind: right.shape for kind, right in hits.items()} == {
        "random": (2, 4, 5),
        "salient": (1, 4, 5),
        "background": (1, 4, 5),
    }
    assert hits["salient"][0].all(1).tolist() == [True, False, False, False]
    assert not hits["salient"][0, 1:].any()
    assert hits["background"].all()
    assert hits["random"][:, 0].all()


def test_a_patch_survives_a_random_order_as_often_as_the_share_says():
    hits = classify([part(400)], OnePatch(3, attends=False), OcclusionSettings([0.0, 0.25, 0.75], 2))
    assert list(hits) == ["random"]
    assert hits["random"].mean((0, 2)).tolist() == pytest.approx([1, 0.75, 0.25], abs=0.05)
    # A dropped patch stays dropped along an order.
    assert not (hits["random"][:, 2] & ~hits["random"][:, 1]).any()


def test_random_orders_depend_only_on_seed_draw_and_image():
    shares = [0.0, 0.5]
    whole = classify([part(40)], OnePatch(3, attends=False), OcclusionSettings(shares, 3))["random"]
    parts = [part(25), part(15, first=25)]
    assert np.array_equal(classify(parts, OnePatch(3, attends=False), OcclusionSettings(shares, 3))["random"], whole)
    assert np.array_equal(
        classify([part(40)], OnePatch(3, attends=False), OcclusionSettings(shares, 1))["random"], whole[:1]
    )
    assert not np.array_equal(whole[0], whole[1])
    other = classify([part(40)], OnePatch(3, attends=False), OcclusionSettings(shares, 3, seed=1))["random"]
    assert not np.array_equal(other, whole)


def test_object_patches_are_dropped_first_or_last():
    objects = torch.zeros(4, COUNT)
    objects[:, [6, 7]] = 1.0
    objects[:, 5] = 0.3
    hits = classify([part(4, objects=objects)], OnePatch(6), OcclusionSettings([0.0, 2 / 16, 13 / 16, 14 / 16]))
    assert not hits["object"][0, 1:].any()
    assert hits["off-object"][0, :3].all()
    # A patch that the object partly covers comes between the object's patches and the others.
    hits = classify([part(4, objects=objects)], OnePatch(5), OcclusionSettings([0.0, 2 / 16, 13 / 16, 14 / 16]))
    assert hits["object"][0].all(1).tolist() == [True, True, False, False]
    assert hits["off-object"][0].all(1).tolist() == [True, True, True, False]


def test_dropped_patches_get_the_mean_colour_and_nothing_else_changes():
    images = part(2).images
    gone = without(images, torch.tensor([[0, 5], [3, 15]]), 8)
    for image, patches in enumerate([(0, 5), (3, 15)]):
        for patch in range(COUNT):
            where = (
                slice(None),
                slice(8 * (patch // 4), 8 * (patch // 4) + 8),
                slice(8 * (patch % 4), 8 * (patch % 4) + 8),
            )
            wanted = torch.zeros(3, 8, 8) if patch in patches else images[image][where]
            assert torch.equal(gone[image][where], wanted)


def test_at_least_one_patch_is_kept():
    assert [dropped(share, 16) for share in (0, 0.03, 0.1, 0.5, 0.99)] == [0, 0, 2, 8, 15]


def test_rows_of_a_curve_and_its_area():
    hits = np.array([[[1, 1, 1, 1], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]], bool)
    first, last = curve(hits, [0.0, 0.5], 16)
    assert (first["top1"], first["dropped"], first["draws"]) == (100, 0, [100, 100])
    assert (last["top1"], last["dropped"], last["draws"]) == (37.5, 8, [50, 25])
    assert area([0.0, 0.5], [100.0, 37.5]) == 68.75
    assert area([0.0], [7.0]) == 7.0
    assert area([0.0, 0.1, 0.9], [100.0, 0.0, 0.0]) == pytest.approx(5 / 0.9)


def test_images_are_balanced_over_classes_and_larger_counts_contain_smaller_ones():
    labels = np.array([0] * 30 + [1] * 10 + [2] * 4 + [-1] * 5)
    some, more = balanced_rows(labels, 9, 0), balanced_rows(labels, 24, 0)
    assert np.bincount(labels[some]).tolist() == [3, 3, 3]
    assert np.bincount(labels[more]).tolist() == [10, 10, 4]
    assert set(some) < set(more)
    assert sorted(more) == list(more)
    assert len(balanced_rows(labels, 1000, 0)) == 44
    assert list(some) != list(balanced_rows(labels, 9, 1))
    with pytest.raises(SslkitError, match="no labels"):
        balanced_rows(np.full(3, -1), 2, 0)
    # Naively: in turns, each turn by class.
    drawn = {c: rng.generator(5, "occlusion/images", c).permutation(np.flatnonzero(labels == c)) for c in range(3)}
    turns = sorted((turn, c, row) for c, rows in drawn.items() for turn, row in enumerate(rows.tolist()))
    assert balanced_rows(labels, 17, 5).tolist() == sorted(row for _, _, row in turns[:17])
