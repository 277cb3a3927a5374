"""Progress during training: a small k-NN and the effective rank, on a part of train, never on val.

The queries are training images that are not in the bank. The model still trains on them, so that monitoring a run
never changes its weights.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.data.loader import Images
from sslkit.diagnostics import effective_rank
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.recipe.sections import MonitorSection
from sslkit.workers import cores

BATCH = 256
NEIGHBOURS, TEMPERATURE = 20, 0.07


def watcher(
    frozen: FrozenEncoder, images: Images, section: MonitorSection, seed: int
) -> Callable[[], dict[str, float]]:
    """A function that evaluates the encoder being trained: ``effective_rank`` and, with labels, ``knn``, in percent.

    The section says how many of the training images to use, the seed which.
    """
    chosen = rng.generator(seed, "monitor").permutation(len(images))[: section.queries + section.bank]
    labels = torch.from_numpy(images.labels[chosen])
    queries = min(section.queries, len(chosen) // 2)

    def look() -> dict[str, float]:
        features = F.normalize(features_of(frozen, images, chosen), dim=-1)
        seen = {"effective_rank": round(effective_rank(features[:queries]), 2)}
        if bool((labels >= 0).all()) and queries:
            accuracy = _nearest(features[queries:], labels[queries:], features[:queries], labels[:queries])
            seen["knn"] = round(accuracy, 2)
        return seen

    return look


@torch.inference_mode()
def features_of(frozen: FrozenEncoder, images: Images, chosen: np.ndarray) -> Tensor:
    """(n, D) float32 on the host: CLS features of the chosen images, cropped as evaluation does."""
    was_training = frozen.encoder.training
    frozen.encoder.eval()
    parts = []
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            crops = torch.stack(list(pool.map(lambda i: evaluation_crop(images.image(int(i)), frozen.size), part)))
            with frozen.autocast():
                parts.append(frozen.encoder(frozen.normalise(crops)).cls.float())
    frozen.encoder.train(was_training)
    return torch.cat(parts).cpu()


def _nearest(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> float:
    """Percent right by weighted vote, as in ``sslkit.probes.classify.knn`` but small enough for torch alone."""
    similarity, neighbours = (queries @ bank.T).topk(min(NEIGHBOURS, len(bank)))
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1)
    votes.scatter_add_(1, bank_labels[neighbours], (similarity / TEMPERATURE).exp())
    return 100 * (votes.argmax(1) == labels).float().mean().item()
