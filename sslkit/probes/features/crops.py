"""Evaluation crops of a split's images, batch by batch, as a frozen encoder takes them."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.probes.features.extraction import UnlabelledImages
from sslkit.workers import cores

BATCH = 64  # images per forward pass


def crops(
    images: UnlabelledImages, rows: np.ndarray, frozen: FrozenEncoder, title: str = ""
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """The crops that ``extract`` sees; the next batch is cut while the caller works on one.

    Args:
        images: the split.
        rows: (n,) which of its images, in this order.
        frozen: the encoder, for its size, device and normalisation.
        title: of the progress bar; empty shows none.

    Yields:
        The next (B,) of ``rows`` and their pixels, (B, 3, S, S) float32, normalised.

    Raises:
        SslkitError: an image cannot be read.
    """
    size = frozen.size
    with ThreadPoolExecutor(cores()) as pool:

        def begin(part: np.ndarray) -> list[Future[Tensor]]:
            return [pool.submit(lambda row=row: evaluation_crop(images.image(row), size)) for row in part.tolist()]

        following = batches(rows)
        begun = begin(next(following, rows))
        for part in batches(rows, title):
            pixels = torch.stack([crop.result() for crop in begun])
            begun = begin(next(following, rows[:0]))
            yield part, frozen.normalise(pixels)


def batches(rows: np.ndarray, title: str = "") -> Iterator[np.ndarray]:
    """``rows`` in parts of one forward pass, with a progress bar where there is a title."""
    with tqdm(total=len(rows), desc=title, unit=" images", disable=None if title else True, leave=False) as bar:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            yield part
            bar.update(len(part))
