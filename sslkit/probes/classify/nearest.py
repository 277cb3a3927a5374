"""The nearest neighbours of features by cosine: one exact search for every probe that asks for them."""

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from sslkit.fast_faiss import faiss
from sslkit.probes.features.features import Features


def bank_of(train: Features) -> np.ndarray:
    """(R, D) float32 L2-normalised, filled chunk by chunk.

    FAISS searches this array in place (``faiss.knn`` runs the kernel of ``IndexFlatIP``): an index object would hold a
    second copy, and grow by doubling while it is filled.
    """
    bank = np.empty((len(train), train.width), np.float32)
    for where, rows in train.chunks():
        bank[where] = F.normalize(rows).numpy()
    return bank


def search(bank: np.ndarray, rows: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of a bank (R, D), for (Q, D) features that are not normalised.

    Returns:
        (Q, k) float32 cosines in falling order, and (Q, k) int64 positions in the bank.
    """
    return faiss.knn(F.normalize(rows).numpy(), bank, k, faiss.METRIC_INNER_PRODUCT)
