"""Deep clustering: the clusters of the features are the classes to learn (Caron et al., arXiv:1807.05520).

    before each epoch: k-means on the features of all images, PCA-whitened and L2-normalised -> y_i in {1 ... K}
    in each step:      loss = mean over i of w(y_i) x -log softmax_{y_i}(classifier(f(augmented x_i)))

Two shortcuts are closed (section 3.3): clusters that lose all their images are refilled, and an image counts by the
inverse of its cluster's size, as if clusters were sampled evenly. A cluster's number means nothing from one k-means to
the next, so the classifier starts over each epoch.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from pydantic import Field
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.batch import Batch
from sslkit.distributed.process_group import fill_from_leader
from sslkit.errors import SslkitError, UsageError
from sslkit.fast_faiss import faiss
from sslkit.methods.base import Classifying, DataFacts, Losses, Preview, augmented
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment

DIMENSIONS = 256  # principal components, at most
ITERATIONS = 20  # of k-means
IMAGES_PER_CLUSTER = 128  # the paper's: 10,000 clusters of ImageNet's 1.28 million images
FEW_CLUSTERS = 100
UNKNOWN = -1


class DeepCluster(Classifying):
    """A linear layer on CLS predicts each crop's cluster; the clusters are buffers, so that a checkpoint keeps them."""

    assignments: Tensor
    weights: Tensor
    clusters_in_use: Tensor
    nmi: Tensor

    class Config(Classifying.Config):
        """Keys of the recipe's ``method`` section."""

        clusters: int | None = Field(default=None, gt=1)  # K; None: see ``cluster_count``

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        assert isinstance(recipe.method, self.Config)
        samples = self.facts.samples
        self.clusters = recipe.method.clusters or cluster_count(samples)
        if samples and self.clusters > samples:
            raise UsageError(
                f"method.clusters is {self.clusters}, but there are only {samples} training images: "
                f"--set method.clusters={cluster_count(samples)}"
            )
        self.classifier = nn.Linear(self.encoder.width, self.clusters)
        self.register_buffer("assignments", torch.full((samples,), UNKNOWN))
        self.register_buffer("weights", torch.ones(self.clusters))
        self.register_buffer("clusters_in_use", torch.tensor(0.0))  # exp of the entropy of the clusters' shares
        self.register_buffer("nmi", torch.tensor(0.0))  # of this epoch's clusters and the last one's (figure 2b)

    def begin_epoch(self, at: Moment, features: Callable[[], Tensor]) -> Iterable[nn.Parameter]:
        """Cluster all images and start with a new classifier."""
        seed, epoch = self.recipe.train.seed, round(at.epoch)
        rows, before = features().numpy(), self.assignments.cpu().clone().numpy()
        if not np.isfinite(rows).all():
            raise SslkitError(f"the features before epoch {epoch} are not finite: lower --lr, or use --precision fp32")
        # Sums in another order could move an image to another cluster: one process decides.
        fill_from_leader(self.assignments, lambda: torch.from_numpy(cluster(rows, self.clusters, seed, epoch)))
        found = self.assignments.cpu().numpy()
        sizes = np.bincount(found, minlength=self.clusters)
        shares = sizes[sizes > 0] / len(found)
        self.weights.copy_(torch.from_numpy(inverse_sizes(sizes)))
        self.clusters_in_use.fill_(float(np.exp(-(shares * np.log(shares)).sum())))
        self.nmi.fill_(float(normalized_mutual_info_score(before, found, average_method="geometric")))
        with torch.no_grad():
            weight, draw = self.classifier.weight, rng.generator(seed, "deep-cluster", epoch)
            weight.copy_(torch.from_numpy(draw.normal(0, 0.01, tuple(weight.shape))))
            self.classifier.bias.zero_()
        return self.classifier.parameters()

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        crops = augmented(batch)[0]
        cls = self.encode(crops, batch, at)  # (V, B, D)
        logits = self.classifier(cls).float()
        targets = self._targets(batch).expand(len(crops), -1)
        loss = weighted_cross_entropy(logits, targets, self.weights)
        more = {"clusters_in_use": self.clusters_in_use.clone()}
        if at.step >= at.steps_per_epoch:  # the first epoch's clusters have none to be compared with
            more["nmi"] = self.nmi.clone()
        return self.losses(loss, logits, targets, cls[0], **more)

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """The crops and the cluster of each image."""
        numbers = self._targets(batch).tolist()
        captions = [f"cluster {n} of {self.clusters}" if n >= 0 else "no cluster before training" for n in numbers]
        return Preview({"crop": augmented(batch)[0]}, captions=captions)

    def _targets(self, batch: Batch) -> Tensor:
        """(B,) clusters of the batch's images, -1 before the first epoch."""
        return self.assignments[batch.samples.to(self.assignments.device, non_blocking=True)]


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean over all images of weight x cross-entropy.

    Not divided by the sum of the batch's weights: over the whole dataset they have mean 1, and a mean over processes
    of these means is that of the global batch.

    Args:
        logits: (..., K).
        targets: (...) int64; -1 counts 0.
        weights: (K,), of each cluster.
    """
    flat = targets.flatten()
    each = F.cross_entropy(logits.flatten(0, -2), flat, ignore_index=UNKNOWN, reduction="none")
    return (each * weights[flat.clamp_min(0)]).mean()


def inverse_sizes(sizes: np.ndarray) -> np.ndarray:
    """(K,) images of each cluster -> (K,) float32 weights N / (K' n), with K' the clusters that are not empty.

    The mean weight of all N images is 1, and every cluster weighs the same; an empty one 0.
    """
    used = sizes > 0
    weights = sizes.sum() / (used.sum() * np.maximum(sizes, 1))
    return np.where(used, weights, 0).astype(np.float32)


def cluster_count(samples: int) -> int:
    """The default number of clusters: one for each 128 images, as in the paper, but at least 100.

    A small dataset has one for each 10 images.

    >>> cluster_count(1_281_167), cluster_count(50_000), cluster_count(10_000), cluster_count(80)
    (10009, 390, 100, 8)
    """
    return max(samples // IMAGES_PER_CLUSTER, min(FEW_CLUSTERS, samples // 10), 2)


def cluster(features: np.ndarray, clusters: int, seed: int, epoch: int) -> np.ndarray:
    """K-means on whitened features, without empty clusters: (N, D) float32 -> (N,) int64 in [0, K), K at most N."""
    rows, draw = whitened(features), rng.generator(seed, "k-means", epoch)
    k_means = faiss.Kmeans(
        rows.shape[1],
        clusters,
        niter=ITERATIONS,
        seed=int(draw.integers(2**31)),
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # all images, not a sample of them
    )
    k_means.train(rows)
    return fill_empty(rows, k_means.assign(rows)[1].astype(np.int64), clusters, draw)


def whitened(features: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, min(D, 256)) float32: principal components of variance 1, then each row of length 1."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # rising
    variance, directions = variance[::-1][:DIMENSIONS], directions[:, ::-1][:, :DIMENSIONS]
    # Directions without variance hold rounding errors; they stay small.
    rows = centred @ (directions / np.sqrt(np.maximum(variance, 1e-6 * max(variance[0], 1e-12))))
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(rows, dtype=np.float32)


def fill_empty(rows: np.ndarray, assignments: np.ndarray, clusters: int, draw: np.random.Generator) -> np.ndarray:
    """Give every empty cluster a part of a large one: (N, D) and (N,) int64 -> (N,) int64 in which all of the K occur.

    The paper halves a random cluster that is not empty, by a centroid moved at random; here the largest is cut, which
    always has two images, by a plane through its centre in a random direction.
    """
    filled = assignments.copy()
    sizes = np.bincount(filled, minlength=clusters)
    for empty in np.flatnonzero(sizes == 0):
        largest = sizes.argmax()
        members = np.flatnonzero(filled == largest)
        along = (rows[members] - rows[members].mean(0)) @ draw.standard_normal(rows.shape[1])
        moved = members[along > 0]
        if not 0 < len(moved) < len(members):  # all are equal: no plane separates them
            moved = members[: len(members) // 2]
        filled[moved] = empty
        sizes[empty], sizes[largest] = len(moved), len(members) - len(moved)
    return filled
