"""Masks over photos."""

import numpy as np
import torch
from PIL import Image

from sslkit.plots.pictures import SHADE, shade


def test_shade_covers_whole_patches_and_nothing_else() -> None:
    hidden = torch.tensor([[True, False], [False, False]])
    pixels = np.asarray(shade(Image.new("RGB", (8, 8), (255, 0, 0)), hidden, strength=1.0))
    assert (pixels[:4, :4] == SHADE).all()
    assert (pixels[4:] == (255, 0, 0)).all()
