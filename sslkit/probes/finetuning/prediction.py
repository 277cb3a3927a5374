"""Predictions of a classifier of images: an encoder, one of its outputs, and a linear layer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sslkit.data.loader import Images
from sslkit.device import Precision
from sslkit.encoder.encoder import Encoder, Tokens
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.errors import UsageError
from sslkit.probes.features.crops import crops
from sslkit.probes.features.features import ranks_of_truth
from sslkit.probes.finetuning.settings import Pool

UNLABELLED = -1


class LabelledImages:
    """Some images of a split, with labels that may differ from the split's: both (M,) int64, -1 = unlabelled."""

    def __init__(self, images: Images, rows: np.ndarray, labels: np.ndarray):
        self.images, self.rows, self.labels = images, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, i: int) -> Tensor:
        """(C, H, W) uint8."""
        return self.images.image(int(self.rows[i]))

    def object_mask(self, i: int) -> Tensor | None:
        """(H, W) uint8, or None."""
        return self.images.object_mask(int(self.rows[i]))


class FloatLinear(nn.Linear):
    """A linear layer in float32 even under autocast: bf16 has 8 bits, in which logits tie and their loss is coarse."""

    def forward(self, features: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(..., D) -> (..., C) float32."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class EncoderClassifier(nn.Module):
    """An encoder with a linear head: images to logits.

    Args:
        encoder: any.
        head: linear, on the encoder's width.
        pool: ``cls`` takes CLS, or the architecture's pooled output where there is none; ``mean`` the patches' mean.

    Raises:
        UsageError: a mean over the patches of a model that has none.
    """

    def __init__(self, encoder: Encoder, head: nn.Linear, pool: Pool):
        super().__init__()
        if pool == "mean" and not encoder.vit:
            raise UsageError(f"--pool mean: {encoder.spec.arch} has no patch tokens; leave --pool out")
        self.encoder, self.head, self.pool = encoder, head, pool

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) normalised -> (B, C)."""
        return self.head(self.pooled(self.encoder(images)))

    def pooled(self, tokens: Tokens) -> Tensor:
        """(B, D) float32, the head's input."""
        return (tokens.cls if self.pool == "cls" or tokens.patches is None else tokens.patches.float().mean(1)).float()


@dataclass(frozen=True)
class Predictions:
    """Predictions for N images."""

    predicted: np.ndarray  # (N,) int64, the most likely class
    confidence: np.ndarray  # (N,) float32, its probability
    ranks: np.ndarray  # (N,) int64, how many classes came before the true one; -1 where that is unknown

    def top(self, k: int) -> float:
        """Percent of the labelled images that have their true class among the first k."""
        known = self.ranks >= 0
        return 100 * float((known & (self.ranks < k)).sum()) / max(int(known.sum()), 1)


@torch.inference_mode()
def predict(classifier: EncoderClassifier, images: Images, device: torch.device, precision: Precision) -> Predictions:
    """Predictions for every image, on the evaluation crop that ``extract`` uses."""
    was_training = classifier.training
    classifier.eval()
    predicted, confidence, ranks = [], [], []
    frozen = FrozenEncoder(classifier.encoder, classifier.encoder.spec.image_size, device, precision)
    for rows, pixels in crops(images, np.arange(len(images)), frozen):
        with frozen.autocast():
            logits = classifier(pixels)
        likelihood, answer = logits.float().softmax(-1).max(-1)
        truth = torch.from_numpy(images.labels[rows])
        rank = ranks_of_truth(logits.float().cpu(), truth.clamp_min(0))
        predicted.append(answer.cpu())
        confidence.append(likelihood.cpu())
        ranks.append(torch.where(truth == UNLABELLED, UNLABELLED, rank))
    classifier.train(was_training)
    parts = (predicted, np.int64), (confidence, np.float32), (ranks, np.int64)
    return Predictions(*(torch.cat(part).numpy() if part else np.empty(0, kind) for part, kind in parts))
