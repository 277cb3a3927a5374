"""What a masked autoencoder predicts for removed patches, and its error (arXiv:2111.06377).

A model of normalised pixels predicts the pattern of a patch, but neither its brightness nor its contrast: for viewing,
both are taken from the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslkit.data.augment import photometric_columns
from sslkit.data.batch import Batch
from sslkit.data.normalise import unnormalise
from sslkit.device import Precision, autocast
from sslkit.encoder.spec import EncoderSpec
from sslkit.methods.mae import MaskedAutoencoder, moments, normalised, patchify
from sslkit.schedules import Moment


@dataclass(frozen=True)
class InputImage:
    """An image, with its title, as it enters the model."""

    name: str
    pixels: Tensor  # (C, S, S) uint8, at the size of training
    sample: int  # its number, which keys the random draws of its mask
    object_mask: Tensor | None = None  # (S, S) uint8, 255 on the object; only for maskings that use the true object


@dataclass(frozen=True)
class Reconstructions:
    """B images, their masks and their reconstructions.

    Attributes:
        originals: (B, C, S, S) uint8.
        masks: (B, N) bool, True = removed.
        pictures: (B, C, S, S) uint8, the originals with predictions instead of the removed patches.
        errors: (B,) float64, mean squared error per pixel and channel of the removed patches, in units of the target.
        flat_errors: (B,) float64, the error of patches of one colour, a baseline that knows no pattern.
    """

    originals: Tensor
    masks: Tensor
    pictures: Tensor
    errors: np.ndarray
    flat_errors: np.ndarray


def joined(parts: Sequence[Reconstructions], count: int) -> Reconstructions:
    """The first ``count`` images of several batches."""
    return Reconstructions(
        originals=torch.cat([part.originals for part in parts])[:count],
        masks=torch.cat([part.masks for part in parts])[:count],
        pictures=torch.cat([part.pictures for part in parts])[:count],
        errors=np.concatenate([part.errors for part in parts])[:count],
        flat_errors=np.concatenate([part.flat_errors for part in parts])[:count],
    )


@torch.inference_mode()
def reconstruct(
    method: MaskedAutoencoder, images: Sequence[InputImage], precision: Precision = "fp32"
) -> Reconstructions:
    """Mask B images and let the model, in eval mode, predict the removed patches; errors are computed in float32.

    The method's recipe determines how masks are drawn, and with which seed.
    """
    device = next(method.parameters()).device
    batch = as_batch(images, method.student.spec).to(device)
    with autocast(device, precision):
        crops, masks, painted = method.reconstruct(batch, Moment(0, 1, 1.0))
    patches, found = (patchify(pixels.float(), method.student.patch_size) for pixels in (crops, painted))
    # Differences of normalised pixels become differences of what the model was trained on.
    scale = moments(patches)[1] if method.config.normalise else 1.0
    return Reconstructions(
        originals=torch.stack([each.pixels for each in images]),
        masks=masks.cpu(),
        pictures=unnormalise(painted, batch.mean, batch.std).cpu(),
        errors=_on_removed((found - patches) / scale, masks),
        flat_errors=_on_removed(_flat_difference(patches, masks, method.config.normalise, crops.shape[1]), masks),
    )


def as_batch(images: Sequence[InputImage], spec: EncoderSpec | None = None) -> Batch:
    """A batch with one view of each image, without augmentation, normalised as the encoder's images."""
    mean, std = (spec or EncoderSpec()).statistics
    objects = [each.object_mask for each in images if each.object_mask is not None]
    return Batch(
        samples=torch.tensor([each.sample for each in images]),
        labels=torch.full((len(images),), -1),
        crops=[torch.stack([each.pixels for each in images])[None]],
        photometric=[torch.zeros(1, len(images), photometric_columns()[1])],
        objects=torch.stack(objects)[None] if len(objects) == len(images) else None,
        mean=mean,
        std=std,
    )


def _flat_difference(patches: Tensor, masks: Tensor, normalise: bool, channels: int) -> Tensor:
    """(B, N, P x P x C) from each patch's own mean if targets are normalised, else from the mean visible colour."""
    if normalise:
        return normalised(patches)
    pixels = patches.unflatten(-1, (-1, channels))
    seen = (~masks)[:, :, None, None]
    colour = (pixels * seen).sum((1, 2), keepdim=True) / (seen.sum((1, 2), keepdim=True) * pixels.shape[2])
    return (pixels - colour).flatten(2)


def _on_removed(difference: Tensor, masks: Tensor) -> np.ndarray:
    """(B, N, P x P x C) and (B, N) -> (B,) mean square over removed patches."""
    error = difference.double().square().mean(-1)
    return ((error * masks).sum(1) / masks.sum(1)).cpu().numpy()
