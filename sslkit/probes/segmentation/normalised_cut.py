"""The object as one side of a normalised cut through the patches (TokenCut, arXiv:2202.11539).

Patches are the nodes of a graph. Two are joined by an edge of weight 1 if the cosine of their keys in the last
block is above tau, otherwise by one of 1e-5, so that the graph is connected. The second smallest solution of

    (D - W) y = lambda D y,        D = diag(W 1)

is the relaxed normalised cut (Shi and Malik, PAMI 2000). It is split at its mean; the object is the side with the
largest absolute value. The edges are not refined, so the cut is as coarse as the patches.
"""

import numpy as np
import scipy.linalg

from sslkit.errors import SslkitError

TAU = 0.2  # TokenCut's for DINO's keys
WEAK = 1e-5


def affinity(features: np.ndarray, tau: float = TAU) -> np.ndarray:
    """The graph's weights: (N, D) -> (N, N) float64, 1 or ``WEAK``."""
    rows = features.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.where(rows @ rows.T > tau, 1.0, WEAK)


def second_vector(weights: np.ndarray) -> np.ndarray:
    """The generalised eigenvector y of the second smallest eigenvalue, of either sign.

    With z = D^1/2 y this is an ordinary symmetric problem, of which only one vector is computed: (N, N) symmetric,
    positive weights -> (N,).

    Raises:
        SslkitError: there is only one patch.
    """
    if len(weights) < 2:
        raise SslkitError("a photo of one patch cannot be cut in two: use a larger --image-size")
    scale = 1 / np.sqrt(weights.sum(1))
    laplacian = np.eye(len(weights)) - scale[:, None] * weights * scale
    return scipy.linalg.eigh(laplacian, subset_by_index=[1, 1])[1][:, 0] * scale


def normalised_cut(features: np.ndarray, tau: float = TAU) -> np.ndarray:
    """Which patches are the object: (N, D) features, usually the keys of the last block -> (N,) bool.

    All are if every two patches are joined, with a cosine above ``tau``.
    """
    weights = affinity(features, tau)
    if len(weights) > 1 and not (weights < 1).any():
        return np.ones(len(weights), bool)  # a cut would be arbitrary
    y = second_vector(weights)
    side = y > y.mean()
    return side if side[np.abs(y).argmax()] else ~side
