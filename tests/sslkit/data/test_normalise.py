"""Normalisation of pixels."""

import pytest
import torch

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD, normalise


@pytest.mark.parametrize(("mean", "std"), [(IMAGENET_MEAN, IMAGENET_STD), ((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))])
def test_it_takes_the_mean_away_and_divides_by_the_deviation(mean, std):
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    before = images.clone()
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    found = normalise(images, mean, std)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (images / 255 - shift) / scale)
    assert torch.equal(images, before)


def test_without_mean_and_deviation_it_takes_those_of_imagenet():
    images = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(normalise(images), normalise(images, IMAGENET_MEAN, IMAGENET_STD))
