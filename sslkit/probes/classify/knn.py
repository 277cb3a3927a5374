"""Weighted k-NN on frozen features, as the papers of DINO and its descendants report it (arXiv:2104.14294).

Features are L2-normalised; the k nearest train images by cosine each vote exp(similarity / T) for their class.
The search is exact (FAISS, inner product) and done once at the largest k: the neighbours for a smaller k are its
first columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sslkit.errors import UsageError
from sslkit.probes.classify.nearest import bank_of, search
from sslkit.probes.features.features import Features, check_pair, ranks_of_truth

SWEEP = (10, 20, 100, 200)
HEADLINE = 20  # fixed beforehand: a k chosen by its val accuracy would be chosen on the test set
QUERIES = 2048  # per search


@dataclass(frozen=True)
class KnnResult:
    """Accuracies by k."""

    k: int  # the headline's
    sweep: list[dict[str, Any]]  # per k, in the order asked for: k, temperature, top1 and top5 in percent
    predicted: np.ndarray  # (R,) int64, classes of val's labelled rows at the headline k
    remark: str  # for the user; may be empty


def usable_ks(asked: Sequence[int] | None, train_size: int) -> tuple[list[int], int, str]:
    """The ks to report, the headline's, and a remark.

    The ks asked for must all be usable; of the standard sweep the usable ones are kept.

    Raises:
        UsageError: a named k, or every k of the sweep, is larger than the train set, or below 1.
    """
    if asked:
        wrong = [k for k in asked if not 1 <= k <= train_size]
        if wrong:
            raise UsageError(f"--k {wrong[0]}: train has {train_size} labelled images, so k is 1 to {train_size}")
        return list(asked), HEADLINE if HEADLINE in asked else asked[0], ""
    kept = [k for k in SWEEP if k <= train_size]
    if not kept:
        raise UsageError(f"train has {train_size} labelled images, fewer than the smallest k, {SWEEP[0]}: name a --k")
    headline = HEADLINE if HEADLINE in kept else kept[-1]
    left = ", ".join(str(k) for k in SWEEP if k not in kept)
    return kept, headline, f"k = {left} left out: train has {train_size} labelled images" if left else ""


def knn(
    train: Features, val: Features, ks: Sequence[int] | None = None, temperature: float = 0.07, progress: bool = False
) -> KnnResult:
    """Classify val by its nearest neighbours in train.

    Memory is the normalised train features, R x D float32, plus a constant, whatever the number of queries. Without
    ``ks``, those of 10, 20, 100 and 200 are used that train has enough images for.

    Raises:
        SslkitError: one class only, NaN, different widths.
        UsageError: k larger than the train set.
    """
    classes = check_pair(train, val)
    used, headline, remark = usable_ks(ks, len(train))
    bank, labels = bank_of(train), torch.from_numpy(train.labels)
    hits = {k: np.zeros(2, np.int64) for k in used}  # top-1, top-5
    predicted = np.empty(len(val), np.int64)
    bar = tqdm(total=len(val), desc="knn", unit=" images", disable=None if progress else True, leave=False)
    for where, rows in val.chunks(QUERIES):
        similarity, neighbours = search(bank, rows, max(used))
        weights = torch.from_numpy(similarity).double().div_(temperature).exp_()
        truth = torch.from_numpy(val.labels[where])
        for k, votes in _votes(weights, labels[torch.from_numpy(neighbours)], classes, used):
            ranks = ranks_of_truth(votes, truth)
            hits[k] += np.array([int((ranks < 1).sum()), int((ranks < 5).sum())])
            if k == headline:
                # NumPy's argmax takes the first of equals, the lowest class.
                predicted[where] = votes.numpy().argmax(1)
        bar.update(len(rows))
    bar.close()
    percent = {k: (100 * found / len(val)).tolist() for k, found in hits.items()}
    sweep = [{"k": k, "temperature": temperature, "top1": percent[k][0], "top5": percent[k][1]} for k in used]
    return KnnResult(headline, sweep, predicted, remark)


def _votes(weights: Tensor, labels: Tensor, classes: int, ks: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Votes per class for every k, ascending: (Q, K) float64 weights and (Q, K) labels -> (k, (Q, C) float64).

    A larger k adds its further neighbours to the votes of the smaller one, in the same tensor.
    """
    votes, done = weights.new_zeros(len(weights), classes), 0
    for k in sorted(set(ks)):
        votes.scatter_add_(1, labels[:, done:k], weights[:, done:k])
        yield k, votes
        done = k
