"""A micro-batch of views, as the loader hands it over."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Batch:
    """A micro-batch as the loader hands it over.

    Attributes:
        samples: (B,) int64 indices in the dataset, on the host.
        labels: (B,) int64, -1 = unlabelled.
        crops: for each group of views (V, B, C, S, S) uint8.
        photometric: for each group (V, B, P) float32 on the host, what ``augment.photometric`` is to do.
        mean: of each channel, with pixels in [0, 1], by which ``augment.photometric`` normalises.
        std: likewise.
        objects: (V, B, S, S) uint8, the share of each pixel of the global crops (the first group) that lies on the
            image's object, times 255; None where the data has no masks or nobody asked for them.
    """

    samples: Tensor
    labels: Tensor
    crops: list[Tensor]
    photometric: list[Tensor]
    objects: Tensor | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from which copies to the device need not wait; the loader calls it."""
        objects = None if self.objects is None else self.objects.pin_memory()
        return replace(self, crops=[c.pin_memory() for c in self.crops], objects=objects)

    def to(self, device: torch.device) -> "Batch":
        """Pixels, objects and labels on the device; indices and draws stay on the host, which reads them."""
        crops = [c.to(device, non_blocking=True) for c in self.crops]
        objects = None if self.objects is None else self.objects.to(device, non_blocking=True)
        return replace(self, labels=self.labels.to(device, non_blocking=True), crops=crops, objects=objects)

    def coverage(self, patch_size: int) -> Tensor | None:
        """See ``patch_coverage``; None where the batch has no objects."""
        return None if self.objects is None else patch_coverage(self.objects, patch_size)


def patch_coverage(objects: Tensor, patch_size: int) -> Tensor:
    """The share of each patch that lies on the object.

    Args:
        objects: (V, B, S, S) uint8, ``Batch.objects``.
        patch_size: pixels; divides S.

    Returns:
        (V x B, N) float32 in [0, 1] on the same device, view by view, patches row by row.
    """
    return F.avg_pool2d(objects.flatten(0, 1)[:, None].float(), patch_size).flatten(1).div_(255)
