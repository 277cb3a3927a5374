"""A batch of noise as the loader makes it, for the tests of methods, and parts of it."""

import numpy as np
import torch

from sslkit.data.batch import Batch
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.methods.base import Method


def batch_of(method: Method, count: int = 4) -> Batch:
    """The views that a method of 32 px images with patches of 8 px sees of so many images, all of class 0."""
    pixels = torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker(method.recipe.views, 32, 8, 0)
    return ViewBatches(DecodedImages(pixels, np.zeros(count, dtype=np.int64)), views)[0, np.arange(count)]


def part(batch: Batch, rows: slice) -> Batch:
    """Some images of a batch, with the same crops and draws."""
    crops, draws = ([t[:, rows] for t in group] for group in (batch.crops, batch.photometric))
    return Batch(batch.samples[rows], batch.labels[rows], crops, draws)
