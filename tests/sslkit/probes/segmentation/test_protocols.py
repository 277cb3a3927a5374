"""What the heads of an encoder find, and which head is chosen."""

import numpy as np
import torch

from sslkit.probes.segmentation.protocols import FoundObjects, SegmentationSettings, find_objects


class Stub:
    """Photos whose classes are known, and an encoder whose heads look at one class each."""

    classes, objects, binary = ("0", "1", "2"), (1, 2), False

    def __init__(self, labels):
        self.labels, self.names = labels, [str(i) for i in range(len(labels))]

    def read(self, i):
        return torch.zeros(3, *self.labels[i].shape, dtype=torch.uint8), self.labels[i]

    def read_objects(self, i):
        return None


def test_each_object_has_its_own_best_head_and_other_choices_do_not_look():
    labels = np.zeros((4, 4), np.int64)
    labels[:2, :2], labels[2:, 2:] = 1, 2
    photos = Stub([labels, np.zeros_like(labels), labels.T.copy()])
    heads = torch.full((3, 4), 1e-4)
    heads[0, 0] = heads[1, 3] = 1  # head 0 sees the one object, head 1 the other
    heads[2] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    seen = type("PhotoTokens", (), {"grid": (2, 2), "attention": heads, "keys": torch.eye(4), "patches": None})()
    found = find_objects(photos, lambda image: seen, SegmentationSettings(("attention",)))  # pyright: ignore[reportArgumentType]
    assert found.rows.tolist() == [0, 2]  # a photo without an object has nothing to find
    assert found.scores["best_head"].tolist() == [1, 1]
    assert found.heads is not None
    assert found.heads[0, :2].tolist() == [0.5, 0.5]  # by itself each finds one of two
    # Head 2 keeps the first two patches, one of them the first object: 1/2 for that, 0 for the other.
    assert found.heads[0, 2] == 0.25
    # The mean of the heads keeps both objects' patches: 1/2 for either.
    assert found.scores["mean_of_heads"].tolist() == [0.5, 0.5]
    assert found.scores["lowest_entropy"].tolist() == [0.5, 0.5]
    assert found.whole.tolist() == [0.25, 0.25]
    assert found.whole_as_one.tolist() == [0.5, 0.5]
    assert "ncut" not in found.scores


def test_each_tile_says_whose_it_is():
    one = np.ones((1, 2, 2), bool)
    scores = {"best_head": np.array([0.5]), "mean_of_heads": np.array([0.25]), "ncut": np.array([0.75])}
    found = FoundObjects(
        np.zeros(1), np.ones(1), np.ones(1), scores, np.ones((1, 1)), np.zeros(1, int), [one], [one[0]]
    )
    found.cuts.append(one[0])
    titles = [title for title, _ in found.masks(0, "random")]
    assert titles == ["random: head 1, 50 %", "random: mean of heads, 25 %", "random: cut, 75 %"]
