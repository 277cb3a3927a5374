"""Rotation: by which of four right angles was an image turned (Gidaris et al., arXiv:1803.07728)?

    y in {0, 1, 2, 3}    x_y = rotate(x, y x 90 degrees)    loss = mean over x and y of -log F_y(x_y)

To know the angle, a model has to recognise what is in the picture and which way up it belongs. All four copies of an
image are in the batch, as the paper found best (section 3.1); turning by a right angle leaves no trace in the pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit.data.batch import Batch
from sslkit.errors import UsageError
from sslkit.methods.base import Classifying, DataFacts, Losses, Preview, augmented
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment

ANGLES = 4


class Rotation(Classifying):
    """A linear layer on CLS classifies the four rotations of each global crop."""

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        if recipe.views.augment.probability("rotate") not in (0, [0] * (recipe.views.global_.count + 1)):
            raise UsageError("method rotation turns the crops itself: --set views.augment.rotate=0")
        self.classifier = nn.Linear(self.encoder.width, ANGLES)

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        images, angles = rotated(augmented(batch)[0])  # (4V, B, 3, S, S), (4V, B)
        cls = self.encode(images, batch, at)
        logits = self.classifier(cls).float()
        loss = F.cross_entropy(logits.flatten(0, 1), angles.flatten())
        return self.losses(loss, logits, angles, cls[0])

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """The four rotations of each crop and the right answers."""
        images, angles = rotated(augmented(batch)[0])
        answers = [", ".join(f"{90 * angle}" for angle in column) + " degrees" for column in angles.T.tolist()]
        return Preview({"rotated": images}, captions=answers)


def rotated(images: Tensor) -> tuple[Tensor, Tensor]:
    """All four rotations of square images (V, B, 3, S, S).

    Returns:
        (4V, B, 3, S, S), the upright ones first, and (4V, B) int64: right angles, counterclockwise.
    """
    views, size = images.shape[:2]
    turned = torch.cat([images.rot90(turns, (-2, -1)) for turns in range(ANGLES)])
    angles = torch.arange(ANGLES, device=images.device).repeat_interleave(views)
    return turned, angles[:, None].expand(-1, size)
