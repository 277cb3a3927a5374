"""The patches that each masking strategy would hide."""

import torch

from sslkit.probes.inspect.hidden_patches import hide, strategies


def test_every_masking_hides_the_requested_share() -> None:
    attention = torch.rand(10, 14)
    hidden = hide(strategies(0.5), attention, 3)
    assert {"random", "block", "attention high", "attention hint", "attention low"} <= hidden.keys()
    high, low = hidden["attention high"], hidden["attention low"]
    assert attention[high].min() >= attention[~high].max()
    assert torch.equal(low, ~high)
    assert int(hidden["random"].sum()) == 70
    assert int(hidden["block"].sum()) <= 70
    assert int(hidden["attention hint"].sum()) < 70
    again = hide(strategies(0.5), attention, 3)
    assert all(torch.equal(hidden[name], again[name]) for name in hidden)
