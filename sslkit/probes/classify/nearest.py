"""The nearest neighbours of features by cosine: one exact search for every probe that asks for them."""

import faiss
import numpy as np
from torch import Tensor
from torch.nn import functional as F

from sslkit.probes.features.features import Features


def bank_of(train: Features) -> np.ndarray:
    """(R, D) float32 L2-normalised, filled chunk by chunk.

    FAISS searches this array where it lies (``faiss.knn`` runs the kernel of ``IndexFlatIP``): an index object
    would hold a second copy, and grow by doubling while it is filled.
    """
    bank = np.empty((len(train), train.width), np.float32)
    for where, rows in train.chunks():
        bank[where] = F.normalize(rows).numpy()
    return bank


def search(bank: np.ndarray, rows: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of a bank, by an exact search.

    Args:
        bank: (R, D) of ``bank_of``.
        rows: (Q, D) features, not normalised.
        k: neighbours of each; at most R.

    Returns:
        (Q, k) float32 cosines in falling order, and (Q, k) int64 positions in the bank.
    """
    return faiss.knn(F.normalize(rows).numpy(), bank, k, faiss.METRIC_INNER_PRODUCT)
