"""Sinkhorn-Knopp against a loop; DINO's centre meets the authors' in ``test_prototype_cross_entropy``."""

import numpy as np
import pytest
import torch

from sslkit.losses.centering import sinkhorn


def sinkhorn_by_loops(scores: np.ndarray, epsilon: float) -> np.ndarray:
    """(B, K) in float64; prototypes first, then samples, three times."""
    q = np.exp(scores.astype(np.float64) / epsilon)
    for _ in range(3):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for b in range(q.shape[0]):
            q[b] /= q[b].sum() * q.shape[0]
    return q * q.shape[0]


# A wide range underflows in float32, where prototypes or tokens would silently be left out.
@pytest.mark.parametrize("spread", [1.0, 12.0])
def test_sinkhorn_equals_a_loop_that_takes_prototypes_first(spread):
    scores = spread * (2 * torch.rand(2, 9, 5) - 1)
    expected = np.stack([sinkhorn_by_loops(view.numpy(), 0.05) for view in scores])
    torch.testing.assert_close(sinkhorn(scores, 0.05), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-6)


def test_sinkhorn_uses_all_prototypes_alike_and_takes_an_empty_batch():
    codes = sinkhorn(torch.randn(64, 8), 0.5, iterations=50)
    torch.testing.assert_close(codes.sum(-1), torch.ones(64))
    torch.testing.assert_close(codes.mean(0), torch.full((8,), 1 / 8))
    assert sinkhorn(torch.zeros(0, 8), 0.05).shape == (0, 8)
