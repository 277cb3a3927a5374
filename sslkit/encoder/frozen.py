"""An encoder that is evaluated, not trained, together with all that it takes to run it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD, normalise
from sslkit.device import Precision, autocast
from sslkit.encoder.encoder import Encoder


@dataclass(frozen=True)
class FrozenEncoder:
    """What probes and plots are handed: an encoder and how images enter it.

    Attributes:
        encoder: on the device, in eval mode.
        size: S, pixels; images enter it as (B, 3, S, S).
        device: where it computes.
        precision: of its matrix products; what is read from it is float32 in any case.
        mean: of the pixels it was trained on, per channel, in [0, 1].
        std: likewise, the standard deviation.
    """

    encoder: Encoder
    size: int
    device: torch.device
    precision: Precision
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def normalise(self, images: Tensor) -> Tensor:
        """Uint8 (B, 3, H, W) -> float32 on the device, by the encoder's own mean and standard deviation."""
        return normalise(images.to(self.device), self.mean, self.std)

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which matrix products run in the encoder's precision."""
        return autocast(self.device, self.precision)
