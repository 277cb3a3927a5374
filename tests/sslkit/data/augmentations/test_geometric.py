"""Flip and rotation of one crop."""

import numpy as np
import torch

from sslkit.data.augmentations.flip import Flip
from sslkit.data.augmentations.rotate import Rotate

CROP = torch.arange(27, dtype=torch.uint8).view(3, 3, 3)


def test_flip_is_the_mirror_image():
    np.testing.assert_array_equal(Flip.apply(CROP, 1.0), CROP.numpy()[:, :, ::-1])


def test_rotation_turns_counterclockwise():
    for turns in (1, 2, 3):
        np.testing.assert_array_equal(Rotate.apply(CROP, float(turns)), np.rot90(CROP.numpy(), turns, (1, 2)))
