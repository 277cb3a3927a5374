"""Fixed positions."""

import numpy as np
import pytest
import torch

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.sincos_positions import fix_positions, sincos_positions
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError


def test_positions_tell_row_and_column_apart():
    table = sincos_positions((3, 5), 8).view(3, 5, 8)
    rows, columns = table[:, :, [0, 1, 4, 5]], table[:, :, [2, 3, 6, 7]]
    assert (rows == rows[:, :1]).all()
    assert (columns == columns[:1]).all()
    wave = np.array([1, 100**-1.0])  # 10000 ** -(i / 2)
    expected = np.concatenate([np.sin(2 * wave), np.sin(4 * wave), np.cos(2 * wave), np.cos(4 * wave)])
    torch.testing.assert_close(table[2, 4].numpy(), expected.astype(np.float32))
    with pytest.raises(UsageError, match="try 12"):
        sincos_positions((2, 2), 10)


def test_a_model_without_positions_is_refused():
    with pytest.raises(UsageError, match="resnet18 has no table of positions"):
        fix_positions(Encoder(EncoderSpec("resnet18", image_size=32)))
