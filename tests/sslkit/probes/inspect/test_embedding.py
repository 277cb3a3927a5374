"""Maps of features agree with scikit-learn, row by row."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sslkit.errors import SslkitError, UsageError
from sslkit.plots.inspect.embedding import remarks
from sslkit.probes.features.features import Features
from sslkit.probes.inspect import embedding
from sslkit.probes.inspect.embedding import chosen_methods, embed, sampled, unit_rows


def features(rows: np.ndarray) -> Features:
    return Features(Path("cls.npy"), (rows,), np.zeros(len(rows), np.int64), np.arange(len(rows)))


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """60 unit vectors around three corners, in turns."""
    random = np.random.default_rng(0)
    rows = (0.15 * random.normal(size=(60, 8)) + np.eye(3, 8)[np.arange(60) % 3]).astype(np.float32)
    return unit_rows(features(7 * rows), np.arange(60))


def test_rows_are_unit_vectors_of_the_requested_positions():
    rows = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    found = unit_rows(features(rows), np.arange(3, 13))
    np.testing.assert_allclose(found, rows[3:13] / np.linalg.norm(rows[3:13], axis=1, keepdims=True), rtol=1e-6)


def test_pca_is_that_of_scikit_learn(blobs):
    drawn = embed(blobs, "pca", 0)
    model = PCA(2, svd_solver="full")
    np.testing.assert_allclose(np.abs(drawn.positions), np.abs(model.fit_transform(blobs)), atol=1e-5)
    assert drawn.axes[0] == f"PC 1 ({100 * model.explained_variance_ratio_[0]:.1f} % of variance)"
    assert drawn.facts["explained"] == pytest.approx((100 * model.explained_variance_ratio_).tolist(), rel=1e-4)


def test_tsne_keeps_clusters_and_depends_only_on_its_seed(blobs, monkeypatch):
    drawn = embed(blobs, "tsne", 0, perplexity=10)
    distance = np.linalg.norm(drawn.positions[:, None] - drawn.positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    # Row i is of corner i mod 3, and so is the point nearest to it: positions are in the order of the rows.
    assert (distance.argmin(1) % 3 == np.arange(60) % 3).mean() > 0.9
    assert drawn.trustworthiness > 0.9
    assert drawn.facts["kl_divergence"] < 1
    assert np.array_equal(drawn.positions, embed(blobs, "tsne", 0, perplexity=10).positions)
    monkeypatch.setattr(embedding, "COMPONENTS", 5)
    assert embed(blobs, "tsne", 0, perplexity=10).trustworthiness > 0.9
    with pytest.raises(UsageError, match="--perplexity 60 must be at least 1 and below the number of points, 60"):
        embed(blobs, "tsne", 0, perplexity=60)


def test_trustworthiness_is_1_for_a_rotated_plane_and_low_for_noise(monkeypatch):
    plane = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert embed(plane, "pca", 0).trustworthiness == 1

    class Noise:
        def __init__(self, **options):
            pass

        def fit_transform(self, rows):
            return np.random.default_rng(1).normal(size=(len(rows), 2))

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Noise))
    assert embed(plane, "umap", 0).trustworthiness < 0.7


def test_umap_gets_the_seed_and_is_refused_if_not_installed(blobs, monkeypatch):
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"umap requires the package umap-learn: pip install 'sslkit\[umap\]'"):
        chosen_methods("pca,umap")
    asked = {}

    class Fake:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, rows):
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Fake))
    drawn = embed(blobs, "umap", 7)
    assert (asked["random_state"], asked["n_jobs"]) == (7, 1)
    assert "UMAP (" not in remarks(drawn)
    assert np.array_equal(drawn.positions, blobs[:, :2])
    assert "mean nothing" in remarks(drawn)
    assert drawn.facts["neighbours"] == asked["n_neighbors"] == 15
    # Few points have fewer neighbours, and the facts give their number.
    assert embed(blobs[:8], "umap", 7).facts["neighbours"] == asked["n_neighbors"] == 7


@pytest.mark.parametrize("names", ["", ",", "pca,lda"])
def test_unknown_methods_are_named(names):
    with pytest.raises(UsageError, match=f"--method {names}: name one or more of pca, tsne, umap"):
        chosen_methods(names)


def test_methods_keep_their_order():
    assert chosen_methods("tsne, pca,tsne") == ["tsne", "pca"]


def test_features_that_cannot_be_mapped():
    with pytest.raises(SslkitError, match="a map requires at least 5"):
        unit_rows(features(np.eye(4, dtype=np.float32)), np.arange(4))
    with pytest.raises(SslkitError, match="all features are alike"):
        unit_rows(features(np.arange(1, 10, dtype=np.float32)[:, None] * np.ones(6, np.float32)), np.arange(9))
    with pytest.raises(SslkitError, match="NaN"):
        unit_rows(features(np.full((9, 2), np.nan, np.float32)), np.arange(9))


def test_samples_ascend_and_differ_by_seed():
    rows = features(np.zeros((50, 1), np.float32))
    chosen = sampled(rows, 20, 0)
    assert len(set(chosen.tolist())) == 20
    assert (np.diff(chosen) > 0).all()
    assert not np.array_equal(chosen, sampled(rows, 20, 1))
    assert np.array_equal(sampled(rows, 99, 0), np.arange(50))
