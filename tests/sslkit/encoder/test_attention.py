"""The mask of the most-attended tokens, against DINO's own code, and attention without the fused kernel."""

import numpy as np
import torch
from conftest import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from sslkit.encoder.attention import threshold, unfuse_attention
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec


def test_the_mask_is_that_of_the_authors_code() -> None:
    with np.load(FIXTURES / "attention_threshold.npz") as oracle:
        mask = threshold(torch.from_numpy(oracle["attention"]), float(oracle["keep"]))
        assert torch.equal(mask, torch.from_numpy(oracle["mask"]))


@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=40).map(lambda v: torch.tensor(v, dtype=torch.float64)),
    st.floats(0.05, 0.95),
)
def test_the_mask_is_the_smallest_that_holds_the_mass(attention: torch.Tensor, keep: float) -> None:
    mask, share = threshold(attention, keep), attention / attention.sum()
    assert share[mask].sum() >= keep - 1e-9
    assert share[mask].sum() - share[mask].min() <= keep + 1e-9
    if not mask.all():
        assert share[mask].min() >= share[~mask].max()


def test_unfused_attention_computes_the_same():
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224", image_size=64, width=48, depth=3, heads=3)).eval()
    images = torch.randn(2, 3, 64, 64)
    fused = encoder(images).cls
    unfuse_attention(encoder)
    torch.testing.assert_close(encoder(images).cls, fused)
