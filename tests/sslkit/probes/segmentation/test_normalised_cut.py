"""The normalised cut against a dense solver."""

import numpy as np
import pytest
import scipy.linalg

from sslkit.errors import SslkitError
from sslkit.probes.segmentation.normalised_cut import WEAK, affinity, normalised_cut, second_vector


def two_blocks(sizes=(7, 13), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features in two directions, shuffled, and which rows are the smaller block."""
    draw = np.random.default_rng(seed)
    which = draw.permutation(np.arange(sum(sizes)) < sizes[0])
    return np.where(which[:, None], [1.0, 0, 0], [0, 1.0, 0]) + 0.05 * draw.normal(size=(len(which), 3)), which


@pytest.mark.parametrize("seed", range(3))
def test_a_cut_separates_two_blocks_and_takes_the_one_that_stands_out(seed):
    features, small = two_blocks(seed=seed)
    assert np.array_equal(normalised_cut(features), small)
    assert np.array_equal(normalised_cut(100 * features), small)  # cosines only


def test_the_vector_of_a_cut_solves_the_generalised_problem():
    features = np.random.default_rng(0).normal(size=(30, 4))
    weights = affinity(features, 0.2)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert all(weights[i, j] == (1.0 if unit[i] @ unit[j] > 0.2 else WEAK) for i, j in np.ndindex(30, 30))
    degrees = np.diag(weights.sum(1))
    values, vectors = scipy.linalg.eigh(degrees - weights, degrees)  # the whole problem as it is written
    y = second_vector(weights)
    assert np.allclose((degrees - weights) @ y, values[1] * degrees @ y, atol=1e-9)
    expected = vectors[:, 1] * np.sign(vectors[0, 1] * y[0])
    assert np.allclose(y / np.abs(y).max(), expected / np.abs(expected).max(), atol=1e-8)


def test_one_patch_cannot_be_cut():
    with pytest.raises(SslkitError, match="larger --image-size"):
        normalised_cut(np.ones((1, 3)))


def test_patches_that_are_all_joined_are_not_cut_anywhere():
    assert normalised_cut(np.ones((9, 4)) + np.arange(9)[:, None] * 1e-3).all()
