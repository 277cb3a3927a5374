"""Sizes at which photos enter an encoder."""

from hypothesis import given
from hypothesis import strategies as st

from sslkit.encoder.input_size import MAX_TOKENS, input_size


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 600), st.sampled_from([4, 8, 14, 16]))
def test_it_is_whole_patches_in_proportion(height: int, width: int, shorter: int, patch: int) -> None:
    rows, columns = (side // patch for side in input_size(height, width, shorter, patch))
    assert min(rows, columns) >= 1
    assert rows * columns <= max(MAX_TOKENS, (shorter // patch) ** 2)
    assert (rows <= columns) == (height <= width) or rows == columns
    small, ratio = max(shorter // patch, 1), max(height, width) / min(height, width)
    if small * (small * ratio + 1) <= MAX_TOKENS:
        assert min(rows, columns) == small
        assert abs(max(rows, columns) - ratio * min(rows, columns)) <= 1
