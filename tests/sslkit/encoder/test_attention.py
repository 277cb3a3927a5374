"""Masks of the attention's mass against DINO's own code, and the size at which a photo enters an encoder."""

import numpy as np
import torch
from conftest import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from sslkit.encoder.attention import MAX_TOKENS, model_size, threshold


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


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 600), st.sampled_from([4, 8, 14, 16]))
def test_model_size_is_whole_patches_in_proportion(height: int, width: int, shorter: int, patch: int) -> None:
    rows, columns = (side // patch for side in model_size(height, width, shorter, patch))
    assert min(rows, columns) >= 1
    assert rows * columns <= max(MAX_TOKENS, (shorter // patch) ** 2)
    assert (rows <= columns) == (height <= width) or rows == columns
    small, ratio = max(shorter // patch, 1), max(height, width) / min(height, width)
    if small * (small * ratio + 1) <= MAX_TOKENS:
        assert min(rows, columns) == small
        assert abs(max(rows, columns) - ratio * min(rows, columns)) <= 1
