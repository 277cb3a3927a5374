"""The one crop that evaluation sees."""

import pytest
import torch

from sslkit.data.evaluation_crop import evaluation_crop


@pytest.mark.parametrize(
    ("height", "width", "size"), [(40, 40, 32), (60, 40, 32), (300, 500, 224), (20, 90, 32), (32, 32, 32), (32, 1, 8)]
)
def test_it_has_its_size_and_the_middle_of_the_image(height, width, size):
    ramp = torch.arange(width, dtype=torch.float32).mul(255 / width).to(torch.uint8).expand(3, height, width)
    crop = evaluation_crop(ramp.contiguous(), size)
    assert crop.shape == (3, size, size)
    assert abs(float(crop.float().mean()) - float(ramp.float().mean())) < 4


def test_from_128_pixels_on_an_eighth_of_the_shorter_side_is_cut_away():
    exact = torch.randint(0, 256, (3, 256, 300), dtype=torch.uint8)
    assert torch.equal(evaluation_crop(exact, 224), exact[:, 16:240, 38:262])


def test_a_small_image_is_kept_whole():
    small = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert torch.equal(evaluation_crop(small, 32), small)
