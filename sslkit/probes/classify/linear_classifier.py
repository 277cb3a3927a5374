"""A frozen encoder with the linear head trained on its features, as one classifier of images."""

from typing import Literal

import torch
from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.errors import SslkitError, UsageError

Drop = Literal["pixels", "tokens"]
COARSEST, FINEST = 4, 14  # patches along a side for a model without patches; 14 as in arXiv:2105.10497


class LinearClassifier:
    """A frozen encoder with the linear head trained on its features.

    Args:
        frozen: the encoder.
        weight: (C, D) for raw features.
        bias: (C,).
        features: as ``linear/results.json`` names them: ``cls``, ``CLS of last N``, ``patch_mean``, joined by `` + ``.

    Raises:
        SslkitError: unknown features, or features of another width than the head's.
    """

    def __init__(self, frozen: FrozenEncoder, weight: Tensor, bias: Tensor, features: str):
        self.frozen, self.weight, self.bias = frozen, weight, bias
        self.blocks, self.patch_mean = parse_features(features)
        encoder = frozen.encoder
        self.patch_size = patch_size(encoder)
        width = encoder.width * (self.blocks + self.patch_mean)
        if width != weight.shape[1]:
            raise SslkitError(
                f"the linear head takes {weight.shape[1]} numbers, but {features} of {encoder.spec.arch} has {width}: "
                "name the encoder whose features it was trained on, by the options that extract had"
            )

    @torch.inference_mode()
    def logits(self, images: Tensor, keep: Tensor | None) -> Tensor:
        """See ``occlusion.OccludableClassifier``."""
        encoder = self.frozen.encoder
        with self.frozen.autocast():
            if keep is None:
                blocks, mean = encoder.last_cls(images, max(self.blocks, 1))
            else:
                tokens = encoder(images, keep=keep)
                assert tokens.patches is not None
                blocks, mean = tokens.cls[:, None], tokens.patches.mean(1)
        parts = [blocks.flatten(1)] if self.blocks else []
        parts += [mean] if self.patch_mean and mean is not None else []
        return torch.cat([part.float() for part in parts], 1).cpu() @ self.weight.T + self.bias

    @torch.inference_mode()
    def salience(self, images: Tensor) -> Tensor | None:
        """See ``occlusion.OccludableClassifier``."""
        if self.frozen.encoder.why_no_attention():
            return None
        with self.frozen.autocast():
            attention = self.frozen.encoder(images, attention=True).attention
        assert attention is not None
        return attention.mean(1).cpu()

    def check_drop(self, drop: Drop) -> None:
        """Raise ``UsageError`` where this classifier cannot do without the patches that are dropped."""
        encoder = self.frozen.encoder
        if drop == "tokens" and not encoder.vit:
            raise UsageError(f"{encoder.spec.arch} is not a ViT and has no tokens to drop: use --drop pixels")
        if drop == "tokens" and self.blocks > 1:
            raise UsageError(
                "the linear head takes several blocks, but tokens can be dropped for one only: use --drop pixels"
            )


def parse_features(features: str) -> tuple[int, bool]:
    """How many blocks' CLS tokens a linear head takes, and whether it takes the patch mean.

    >>> parse_features("cls"), parse_features("CLS of last 4"), parse_features("cls + patch_mean")
    ((1, False), (4, False), (1, True))

    Raises:
        SslkitError: unknown features.
    """
    blocks, patch_mean = 0, False
    for name in features.split(" + "):
        last = name.removeprefix("CLS of last ")
        if name == "patch_mean":
            patch_mean = True
        elif name == "cls" or (last != name and last.isdecimal()):
            blocks = 1 if name == "cls" else int(last)
        else:
            raise SslkitError(f"a linear head on '{features}' cannot be evaluated here: train one with `sslkit linear`")
    return blocks, patch_mean


def patch_size(encoder: Encoder) -> int:
    """Side of a patch in pixels; for a model without patches, of a cell of the finest grid of at most 14 x 14."""
    if encoder.vit:
        return encoder.patch_size
    side = encoder.spec.image_size
    finest = next(count for count in range(FINEST, 0, -1) if side % count == 0)
    if finest < COARSEST:
        raise UsageError(
            f"{side} pixels cannot be divided into {COARSEST} to {FINEST} patches: extract at another size"
        )
    return side // finest
