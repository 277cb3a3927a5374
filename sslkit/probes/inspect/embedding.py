"""Maps of frozen features: each image a point of the plane, near its neighbours as far as a plane allows.

Rows are L2-normalised first, so that all maps show the geometry that k-NN judges by, that of cosines. Principal
components are linear: their distances are a shadow of the true ones. t-SNE (van der Maaten and Hinton, JMLR 9, 2008)
and UMAP (arXiv:1802.03426) keep neighbours together and nothing else: neither the distance between two clusters nor
their sizes mean anything.
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
FEWEST = 5  # points that a map is made of
COMPONENTS = 50  # t-SNE starts from so many principal components, as its authors do: they hold what neighbours need
JUDGED_BY = 10  # neighbours that trustworthiness looks at; of few points less than half of them
NEIGHBOURS = 15  # that UMAP keeps near each point, its default; all others where there are fewer
ALIKE = 1e-10  # total variance of unit vectors below which there is nothing but rounding


@dataclass(frozen=True)
class Map:
    """One map of n images.

    Attributes:
        method: a key of ``METHODS``.
        positions: (n, 2) float32.
        axes: names of both, with units.
        trustworthiness: in [0, 1]; 1 when all that are near on the map are near in truth.
        facts: what else the method says of itself.
    """

    method: str
    positions: np.ndarray
    axes: tuple[str, str]
    trustworthiness: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The method's name."""
        return METHODS[self.method]


def chosen_methods(names: str) -> list[str]:
    """``pca,tsne`` -> the methods, in the order given.

    Raises:
        UsageError: an unknown one, none, or one whose package is not here.
    """
    methods = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise UsageError(f"--method {names}: name one or more of {', '.join(METHODS)}, with commas between them")
    if "umap" in methods and importlib.util.find_spec("umap") is None:
        raise UsageError("--method umap needs the package umap-learn: pip install 'sslkit[umap]', or --method pca,tsne")
    return methods


def sampled(features: Features, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` rows, ascending, each as likely as any other; all where there are fewer."""
    order = rng.generator(seed, "embedding").permutation(len(features))
    return np.sort(order[:count])


def unit_rows(features: Features, positions: np.ndarray) -> np.ndarray:
    """(n, D) float32, L2-normalised.

    Raises:
        SslkitError: too few rows, NaN or infinity among them, or rows that are all alike.
    """
    if len(positions) < FEWEST:
        raise SslkitError(f"{features.path} has {len(positions)} images to map: {FEWEST} are the fewest")
    rows = features.take(positions)
    if not torch.isfinite(rows).all():
        raise SslkitError(f"{features.path} holds NaN or infinity; look at the encoder, then extract again")
    unit = F.normalize(rows)
    if float(unit.double().var(0, correction=0).sum()) < ALIKE:
        raise SslkitError(f"{features.path}: all features are alike (collapse), so there is nothing to map")
    return unit.numpy()


def embed(rows: np.ndarray, method: str, seed: int, perplexity: float = 30.0) -> Map:
    """A map of (n, D) rows.

    Args:
        rows: from ``unit_rows``.
        method: a key of ``METHODS``.
        seed: of what the method draws; the same rows and seed give the same map.
        perplexity: of t-SNE, about the number of neighbours that each point keeps near it.

    Raises:
        UsageError: a perplexity that so few points cannot have.
    """
    made = {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](rows, seed, perplexity)
    positions, axes, facts = made
    return Map(method, positions.astype(np.float32), axes, _trustworthiness(rows, positions), facts)


Made = tuple[np.ndarray, tuple[str, str], dict[str, Any]]


def _pca(rows: np.ndarray, seed: int, _: float) -> Made:
    from sklearn.decomposition import PCA

    model = PCA(2, random_state=seed)
    positions = model.fit_transform(rows)
    first, second = (100 * model.explained_variance_ratio_).tolist()
    axes = (f"PC 1 ({first:.1f} % of variance)", f"PC 2 ({second:.1f} % of variance)")
    return positions, axes, {"explained": [first, second]}


def check_perplexity(perplexity: float, points: int) -> None:
    """Refuse as many neighbours as there are points, or fewer than one.

    Raises:
        UsageError: it is so.
    """
    if not 1 <= perplexity < points:
        raise UsageError(f"--perplexity {perplexity:g}: it is from 1 to below the number of points, {points}")


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
    # One job: with several a seed does not settle the map.
    model = umap.UMAP(n_neighbors=neighbours, min_dist=0.1, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(rows)), ("UMAP 1 (no unit)", "UMAP 2 (no unit)"), {"neighbours": neighbours}


def _trustworthiness(rows: np.ndarray, positions: np.ndarray) -> float:
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(rows, positions, n_neighbors=min(JUDGED_BY, (len(rows) - 1) // 2)))
