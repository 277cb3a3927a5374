"""Maps of frozen features to the plane: PCA, t-SNE and UMAP.

Rows are L2-normalised first, so that all maps show the geometry k-NN uses, that of cosines. PCA is a linear projection.
t-SNE (van der Maaten and Hinton, JMLR 9, 2008) and UMAP (arXiv:1802.03426) only keep neighbours together: the distances
between clusters and their sizes mean nothing.
"""

import importlib.util
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sslkit import rng
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.features.features import Features

METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
FEWEST = 5  # points of a map
COMPONENTS = 50  # principal components that t-SNE starts from, as its authors do
TRUSTED_BY = 10  # neighbours that trustworthiness compares; fewer than half of the points if there are few
NEIGHBOURS = 15  # that UMAP keeps near each point, its default; all others if there are fewer
ALIKE = 1e-10  # total variance of unit vectors below which only rounding errors are left


@dataclass(frozen=True)
class FeatureMap:
    """One map of n images, by one of ``METHODS``."""

    method: str
    positions: np.ndarray  # (n, 2) float32
    axes: tuple[str, str]  # names, with units
    trustworthiness: float  # in [0, 1]; 1 if all neighbours on the map are neighbours among the features
    facts: dict[str, Any] = field(default_factory=dict)  # further numbers of the method

    @property
    def title(self) -> str:
        """The method's name."""
        return METHODS[self.method]


def chosen_methods(names: str) -> list[str]:
    """``pca,tsne`` -> the methods, in the given order.

    Raises:
        UsageError: no method, an unknown one, or one whose package is not installed.
    """
    methods = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise UsageError(f"--method {names}: name one or more of {', '.join(METHODS)}, separated by commas")
    if "umap" in methods and importlib.util.find_spec("umap") is None:
        raise UsageError(
            "--method umap requires the package umap-learn: pip install 'sslkit[umap]', or --method pca,tsne"
        )
    return methods


def sampled(features: Features, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` rows drawn at random, ascending; all rows if there are fewer."""
    order = rng.generator(seed, "embedding").permutation(len(features))
    return np.sort(order[:count])


def unit_rows(features: Features, positions: np.ndarray) -> np.ndarray:
    """(n, D) float32, L2-normalised.

    Raises:
        SslkitError: too few rows, NaN or infinity, or rows that are all alike.
    """
    if len(positions) < FEWEST:
        raise SslkitError(f"{features.path} has {len(positions)} images: a map requires at least {FEWEST}")
    rows = features.take(positions)
    if not torch.isfinite(rows).all():
        raise SslkitError(f"{features.path} holds NaN or infinity; check the encoder, then extract again")
    unit = F.normalize(rows)
    if float(unit.double().var(0, correction=0).sum()) < ALIKE:
        raise SslkitError(f"{features.path}: all features are alike (collapse), so there is nothing to map")
    return unit.numpy()


def embed(rows: np.ndarray, method: str, seed: int, perplexity: float = 30.0) -> FeatureMap:
    """Map (n, D) rows to the plane.

    Args:
        rows: from ``unit_rows``.
        method: a key of ``METHODS``.
        seed: of the method; the same rows and seed give the same map.
        perplexity: of t-SNE, roughly the number of neighbours that stay near each point.

    Raises:
        UsageError: a perplexity that is not below the number of points.
    """
    from sklearn.manifold import trustworthiness

    positions, axes, facts = {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](rows, seed, perplexity)
    trust = float(trustworthiness(rows, positions, n_neighbors=min(TRUSTED_BY, (len(rows) - 1) // 2)))
    return FeatureMap(method, positions.astype(np.float32), axes, trust, facts)


Made = tuple[np.ndarray, tuple[str, str], dict[str, Any]]


def _pca(rows: np.ndarray, seed: int, _: float) -> Made:
    from sklearn.decomposition import PCA

    model = PCA(2, random_state=seed)
    positions = model.fit_transform(rows)
    first, second = (100 * model.explained_variance_ratio_).tolist()
    axes = (f"PC 1 ({first:.1f} % of variance)", f"PC 2 ({second:.1f} % of variance)")
    return positions, axes, {"explained": [first, second]}


def check_perplexity(perplexity: float, points: int) -> None:
    """Check that a perplexity is from 1 to below the number of points.

    Raises:
        UsageError: it is not.
    """
    if not 1 <= perplexity < points:
        raise UsageError(f"--perplexity {perplexity:g} must be at least 1 and below the number of points, {points}")


def _tsne(rows: np.ndarray, seed: int, perplexity: float) -> Made:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    check_perplexity(perplexity, len(rows))
    most = min(COMPONENTS, *rows.shape)
    reduced = PCA(most, random_state=seed).fit_transform(rows) if rows.shape[1] > most else rows
    model = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    positions = model.fit_transform(reduced)
    facts = {"perplexity": perplexity, "kl_divergence": float(model.kl_divergence_)}
    return positions, ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)"), facts


def _umap(rows: np.ndarray, seed: int, _: float) -> Made:
    import umap  # type: ignore[import-not-found]

    neighbours = min(NEIGHBOURS, len(rows) - 1)
    # One job: with several, the same seed does not give the same map.
    model = umap.UMAP(n_neighbors=neighbours, min_dist=0.1, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(rows)), ("UMAP 1 (no unit)", "UMAP 2 (no unit)"), {"neighbours": neighbours}
