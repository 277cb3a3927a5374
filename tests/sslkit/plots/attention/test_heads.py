"""All heads in one picture: which head a patch belongs to, and the colours."""

import numpy as np
import torch

from sslkit.encoder.attention import threshold
from sslkit.plots.attention.heads import coloured_heads, key_heading, owners
from sslkit.plots.attention.maps import HeadMaps
from sslkit.plots.figure import COLOURS


def test_a_patch_belongs_to_the_head_with_the_largest_share_there():
    maps = torch.tensor([[[4.0, 4.0, 1.0, 1.0]], [[0.1, 0.5, 0.5, 0.1]]])
    masks = threshold(maps.flatten(1), 0.6).view(maps.shape)
    assert masks.tolist() == [[[True, True, False, False]], [[False, True, True, False]]]
    # Of the second patch head 1 has 4/10 of its mass, head 2 0.5/1.2.
    assert owners(maps, masks).tolist() == [[0, 1, 1, -1]]


def test_each_head_has_its_colour_and_its_name():
    maps = torch.zeros(7, 2, 4)
    for head in range(7):
        maps[head].view(-1)[head] = 1
    drawn = HeadMaps("x", torch.zeros(3, 40, 80, dtype=torch.uint8), maps)
    tile, key = coloured_heads(drawn)
    assert [name for name, _ in key] == [f"head {head}: 1" for head in range(1, 8)]
    assert [code for _, code in key] == [*COLOURS, COLOURS[0]]
    pixels = np.asarray(tile.picture).astype(int)
    for head in range(6):
        row, column = divmod(head, 4)
        seen = pixels[row * 44 + 22, column * 44 + 22]
        wanted = [0.72 * int(COLOURS[head][i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(seen - wanted).max() <= 2
    assert (pixels[66, 3 * 44 + 22] == 0).all()  # nobody's patch stays as it was, in grey
    assert "after 6 heads the colours repeat" in key_heading(7, "60 %")
    assert "repeat" not in key_heading(6, "60 %")
