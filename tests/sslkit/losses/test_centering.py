"""Sinkhorn-Knopp against a loop, and a temperature that sets itself; the centre: ``test_prototype_cross_entropy``."""

import numpy as np
import pytest
import torch

from sslkit.diagnostics import entropy
from sslkit.losses.centering import sharpen, sinkhorn, steered


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


# Near the uniform state, and far beyond it; with two temperatures to start from.
@pytest.mark.parametrize("spread", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("first", [0.04, 1.0])
def test_a_steered_temperature_reaches_the_entropy_asked_for_from_both_sides_and_stays(spread, first):
    logits, most = spread * torch.randn(50, 256), np.log(256)
    temperature, wanted, seen = torch.tensor(first), torch.tensor(0.6 * most), []
    for _ in range(400):
        found = entropy(sharpen(logits, torch.zeros(256), temperature)).mean()
        temperature = steered(temperature, found, wanted, float(most))
        seen.append(float(found) / most)
    assert max(seen[300:]) - min(seen[300:]) < 0.01
    assert abs(seen[-1] - 0.6) < 0.01


def test_a_steered_temperature_stops_where_logits_are_all_alike():
    temperature = torch.tensor(0.04)
    for _ in range(2000):
        temperature = steered(temperature, torch.tensor(5.5), torch.tensor(3.0), 5.5)
    assert temperature == pytest.approx(1e-3)
