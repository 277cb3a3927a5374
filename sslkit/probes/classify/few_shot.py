"""Few-shot classification on frozen features: val by the nearest class mean of a handful of labelled train images.

A class's prototype is the mean of its support, ``shots`` images (arXiv:1703.05175, equation 1), and an image belongs to
the class with the nearest prototype by Euclidean distance. Features are L2-normalised first, as for k-NN
(arXiv:1911.04623), so that with one shot this is 1-NN by cosine. Nothing is trained and nothing is chosen. With few
shots the result depends a lot on which images are drawn, so the support is drawn many times; the spread is that of the
draws, each evaluated on all of val.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from sslkit.data.class_balanced import shots as support
from sslkit.errors import UsageError
from sslkit.probes.classify.nearest import bank_of
from sslkit.probes.features.features import Features, check_pair, ranks_of_truth

QUERIES = 2048  # their distances to all classes are in memory at once


@dataclass(frozen=True)
class FewShotResult:
    """Accuracies of few-shot classification."""

    shots: list[int]  # ascending
    top1: np.ndarray  # (counts, draws), percent of val
    top5: np.ndarray
    predicted: np.ndarray  # (R,) int64, of val's labelled rows, by the first draw of the most shots


def few_shot(
    train: Features, val: Features, counts: Sequence[int], draws: int, seed: int, progress: bool = False
) -> FewShotResult:
    """Classify val by the nearest class mean, for some counts of labelled images per class.

    The support is drawn ``draws`` times for each count; draw d of 1 shot is part of draw d of 5 shots.

    Raises:
        UsageError: no count, or one below 1; no draw.
        SslkitError: a class has fewer images, one class only, NaN, different widths.
    """
    counts = sorted(set(counts))
    if not counts or counts[0] < 1 or draws < 1:
        raise UsageError("few-shot classification needs at least one shot and one draw")
    classes, hits = check_pair(train, val), np.zeros((2, len(counts), draws), np.int64)
    bank, predicted = torch.from_numpy(bank_of(train)), np.empty(len(val), np.int64)
    heads = [[prototypes(bank, train.labels, count, classes, seed, d) for d in range(draws)] for count in counts]
    bar = tqdm(total=len(val), desc="few-shot", unit=" images", disable=None if progress else True, leave=False)
    for where, rows in val.chunks(QUERIES):
        rows, truth = F.normalize(rows), torch.from_numpy(val.labels[where])
        for row, of_count in enumerate(heads):
            for draw, (means, penalty) in enumerate(of_count):
                scores = torch.addmm(penalty, rows, means.T)
                ranks = ranks_of_truth(scores, truth)
                hits[:, row, draw] += int((ranks < 1).sum()), int((ranks < 5).sum())
                if row == len(counts) - 1 and draw == 0:
                    # NumPy's argmax takes the first of equals, the lowest class.
                    predicted[where] = scores.numpy().argmax(1)
        bar.update(len(rows))
    bar.close()
    top1, top5 = 100 * hits / len(val)
    return FewShotResult(counts, top1, top5, predicted)


def prototypes(
    bank: Tensor, labels: np.ndarray, count: int, classes: int, seed: int, draw: int
) -> tuple[Tensor, Tensor]:
    """The class means of one draw, and what turns a product with them into a ranking by distance.

    |q - c|^2 = |q|^2 - 2 (q c - |c|^2 / 2), so the nearest mean c has the largest q c - |c|^2 / 2.

    From (N, D) normalised features of train and (N,) labels: (C, D) means of ``count`` images per class, and (C,)
    -|c|^2 / 2; -infinity for a class that train does not have.
    """
    chosen = support(labels, count, seed, draw)
    means = torch.zeros(classes, bank.shape[1]).index_add_(0, torch.from_numpy(labels[chosen]), bank[chosen]) / count
    penalty = means.square().sum(1) / -2
    penalty[torch.from_numpy(np.setdiff1d(np.arange(classes), labels))] = -torch.inf
    return means, penalty
