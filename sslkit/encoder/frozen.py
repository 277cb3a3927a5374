"""An encoder that is evaluated, not trained, with everything needed to run it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sslkit.data.normalise import normalise
from sslkit.device import Precision, autocast
from sslkit.encoder.encoder import Encoder


@dataclass(frozen=True)
class FrozenEncoder:
    """What probes and plots take: an encoder, and how images are fed to it."""

    encoder: Encoder  # on the device, in eval mode
    size: int  # S, pixels; its input is (B, C, S, S)
    device: torch.device
    precision: Precision  # of its matrix products; what is read from it is always float32
    mean: tuple[float, ...] = ()  # per channel, of pixels in [0, 1]; empty takes that of the encoder's description
    std: tuple[float, ...] = ()

    def __post_init__(self):
        mean, std = self.encoder.spec.statistics
        object.__setattr__(self, "mean", self.mean or mean)
        object.__setattr__(self, "std", self.std or std)

    def normalise(self, images: Tensor) -> Tensor:
        """Uint8 (B, C, H, W) -> float32 on the device, by the encoder's own mean and standard deviation."""
        return normalise(images.to(self.device), self.mean, self.std)

    @property
    def why_not_finite(self) -> str:
        """What must be wrong where its outputs are not finite, in words."""
        more = ", or it overflows in fp16: try --precision fp32" if self.precision == "fp16" else ""
        return f"its weights hold NaN or infinity{more}"

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which matrix products run in the encoder's precision."""
        return autocast(self.device, self.precision)
