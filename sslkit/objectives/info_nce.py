"""InfoNCE: pick the other view of an image among views of other images (SimCLR's NT-Xent, arXiv:2002.05709).

With unit embeddings, an anchor z_a, its positive z_p and the candidates of its softmax,

    l(a) = -log  exp(z_a . z_p / tau) / sum_{c in candidates} exp(z_a . z_c / tau).

Against the student both views of all N images are anchors, and the candidates are the 2N - 1 other embeddings, as in
SimCLR. Against a teacher, or the stopped student, the anchors are the N online embeddings and the candidates the N
targets, as in MoCo v3 (arXiv:2104.02057): each image's own is the positive. N counts the images of all processes.
"""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.distributed.sums import gathered
from sslkit.objectives.base import EmbeddingObjective
from sslkit.recipe.sections import HeadSection


def similarities(online: Tensor, target: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Cosines of anchors and candidates.

    Both are (N, E); the rows of ``target`` are the positives. With ``symmetric`` both are anchors, and all other rows
    candidates.

    Returns:
        (A, C) cosines, -inf where an anchor would meet itself, and (A,) the candidate that is the positive.
    """
    images = len(online)
    online, target = F.normalize(online, dim=-1), F.normalize(target, dim=-1)
    if not symmetric:
        return online @ target.T, torch.arange(images, device=online.device)
    both = torch.cat([online, target])
    itself = torch.eye(2 * images, dtype=torch.bool, device=both.device)
    positives = torch.arange(2 * images, device=both.device).roll(images)
    return (both @ both.T).masked_fill(itself, -torch.inf), positives


def loss(cosines: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the positives: (A, C), (A,) as from ``similarities`` -> 0-dim."""
    return F.cross_entropy(cosines / temperature, positives)


class InfoNce(EmbeddingObjective):
    """Contrast with the images of all processes."""

    couples_batch = True

    class Config(EmbeddingObjective.Config):
        """Temperature of the softmax."""

        temperature: float = Field(default=0.1, gt=0)  # the paper's for ImageNet; 0.5 for CIFAR

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.temperature = config.temperature

    def compare(self, online: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss; metric ``accuracy``: how often the positive is the nearest candidate, percent."""
        symmetric = self.pairing.against == "student"
        cosines, positives = similarities(gathered(online), gathered(target), symmetric)
        accuracy = 100 * (cosines.argmax(-1) == positives).float().mean()
        return loss(cosines, positives, self.temperature), {"accuracy": accuracy}
