"""Maps and masks as tiles: their scale, their sizes, and what their titles say."""

import numpy as np
import torch

from sslkit.plots.attention.maps import (
    HeadMaps,
    draw_sheet,
    head_tiles,
    heat,
    masking_tiles,
    nearly_uniform,
    percent,
    summary_tiles,
)
from sslkit.probes.inspect.attention_maps import KeptAttention


def photo(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_maps_are_squares_scaled_to_their_own_maximum() -> None:
    pixels = np.asarray(heat(torch.tensor([[0.0, 0.1], [0.2, 0.4]])))
    assert pixels.shape == (2, 2, 3)
    brightness = pixels.astype(int).sum(2)
    assert brightness[0, 0] < brightness[0, 1] < brightness[1, 0] < brightness[1, 1]
    assert np.array_equal(np.asarray(heat(torch.full((2, 2), 1e-3))), np.asarray(heat(torch.ones(2, 2))))
    assert np.asarray(heat(torch.zeros(2, 2))).shape == (2, 2, 3)


def test_a_sheet_names_every_head_and_keeps_the_aspect_ratio() -> None:
    drawn = HeadMaps("wide", photo(30, 60), torch.rand(7, 4, 8))
    tiles = head_tiles(drawn)
    assert [tile.title.split(",")[0] for tile in tiles] == [f"head {i}" for i in range(1, 8)]
    assert {tile.picture.size for tile in [*tiles, *summary_tiles(drawn)]} == {(176, 88)}
    assert draw_sheet([tiles]).height > 2 * 88  # seven heads take two rows


def test_flat_maps_are_nearly_uniform():
    flat = torch.full((3, 4), 0.01)
    assert nearly_uniform(flat)
    flat[0, 0] = 0.01 * 11 * (1.51 / 12) / (1 - 1.51 / 12)
    assert not nearly_uniform(flat)
    assert [percent(v) for v in (1.0, 0.996, 0.6, 0.0123)] == ["100 %", "100 %", "60 %", "1.2 %"]


def test_a_timeline_shades_what_attmask_would_hide() -> None:
    masking = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    history = [KeptAttention(float(epoch), [masking[epoch]], [masking[epoch]]) for epoch in range(2)]
    drawn = HeadMaps("x", photo(32, 32), torch.ones(3, 4, 4))
    tiles = masking_tiles(history, 0, drawn, 0.25)
    assert [tile.title for tile in tiles] == ["epoch 0, 25 %", "epoch 1, 25 %"]
    for by, tile in zip(masking, tiles, strict=True):
        hidden = by >= by.flatten().sort().values[-4]
        difference = np.asarray(tile.picture).astype(int) - np.asarray(drawn.photo()).astype(int)
        changed = np.abs(difference).reshape(4, 44, 4, 44, 3).mean((1, 3, 4)) > 1
        assert np.array_equal(changed, hidden.numpy())
