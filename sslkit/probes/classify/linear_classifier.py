"""A frozen encoder and the linear head that was trained on its features, as one classifier of images."""

from typing import Literal

import torch
from torch import Tensor

from sslkit.device import Precision, autocast
from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError, UsageError

Drop = Literal["pixels", "tokens"]
COARSEST, FINEST = 4, 14  # patches along a side, where the model has none of its own; 14 are arXiv:2105.10497's


class LinearClassifier:
    """A frozen encoder and the linear head that was trained on its features.

    Args:
        encoder: moved to the device, in eval mode.
        weight: (C, D) for raw features.
        bias: (C,).
        features: what the head reads, as ``linear/results.json`` says: ``cls``, ``CLS of last N``, ``patch_mean``, or
            several joined by `` + ``.
        device: where the encoder computes.
        precision: of its matrix products.

    Raises:
        SslkitError: features that are not known here, or of another width than the head's.
    """

    def __init__(
        self, encoder: Encoder, weight: Tensor, bias: Tensor, features: str, device: torch.device, precision: Precision
    ):
        self.encoder, self.device = encoder.to(device).eval(), device
        self.precision: Precision = precision
        self.weight, self.bias = weight, bias
        self.blocks, self.patch_mean = reads(features)
        self.patch_size = patch_size(encoder)
        width = encoder.width * (self.blocks + self.patch_mean)
        if width != weight.shape[1]:
            raise SslkitError(
                f"the linear head reads {weight.shape[1]} numbers and {features} of {encoder.spec.arch} has {width}: "
                "name the encoder whose features it was trained on, by extract's own options"
            )

    @torch.inference_mode()
    def logits(self, images: Tensor, keep: Tensor | None) -> Tensor:
        """See ``occlusion.Classifier``."""
        with autocast(self.device, self.precision):
            if keep is None:
                blocks, mean = self.encoder.last_cls(images, max(self.blocks, 1))
            else:
                tokens = self.encoder(images, keep=keep)
                assert tokens.patches is not None
                blocks, mean = tokens.cls[:, None], tokens.patches.mean(1)
        parts = [blocks.flatten(1)] if self.blocks else []
        parts += [mean] if self.patch_mean and mean is not None else []
        return torch.cat([part.float() for part in parts], 1).cpu() @ self.weight.T + self.bias

    @torch.inference_mode()
    def salience(self, images: Tensor) -> Tensor | None:
        """See ``occlusion.Classifier``."""
        if self.encoder.why_no_attention():
            return None
        with autocast(self.device, self.precision):
            attention = self.encoder(images, attention=True).attention
        assert attention is not None
        return attention.mean(1).cpu()


def reads(features: str) -> tuple[int, bool]:
    """The blocks whose CLS a linear head reads, and whether it reads the patch mean.

    >>> reads("cls"), reads("CLS of last 4"), reads("cls + patch_mean")
    ((1, False), (4, False), (1, True))

    Raises:
        SslkitError: words that are not known here.
    """
    blocks, patch_mean = 0, False
    for name in features.split(" + "):
        last = name.removeprefix("CLS of last ")
        if name == "patch_mean":
            patch_mean = True
        elif name == "cls" or (last != name and last.isdecimal()):
            blocks = 1 if name == "cls" else int(last)
        else:
            raise SslkitError(f"a linear head on '{features}' cannot be judged here: train one by `sslkit linear RUN`")
    return blocks, patch_mean


def patch_size(encoder: Encoder) -> int:
    """Pixels; for a model without patches the side of the finest regular grid of at most 14 x 14."""
    if encoder.vit:
        return encoder.patch_size
    side = encoder.spec.image_size
    finest = next(count for count in range(FINEST, 0, -1) if side % count == 0)
    if finest < COARSEST:
        raise UsageError(f"{side} pixels do not divide into {COARSEST} to {FINEST} patches: extract at another size")
    return side // finest


def check(probe: LinearClassifier, drop: Drop) -> None:
    """Refuse to drop tokens where that cannot be done.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if drop == "tokens" and not probe.encoder.vit:
        raise UsageError(f"{probe.encoder.spec.arch} is no ViT and has no tokens to drop: use --drop pixels")
    if drop == "tokens" and probe.blocks > 1:
        raise UsageError("the linear head reads several blocks, and tokens are dropped for one: use --drop pixels")
