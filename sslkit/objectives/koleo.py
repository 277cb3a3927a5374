"""KoLeo: spread the features evenly over the sphere (arXiv:1806.03198; as DINOv2 uses it, arXiv:2304.07193).

With d_n the distance from a feature to its nearest neighbour in the batch, after L2 normalisation,

    L = -1/N sum_n log d_n,

the differential entropy of the features by Kozachenko and Leonenko, up to constants. It is a regulariser: on its
own it does not relate views. Every global view has its own batch of N images, those of all processes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.distributed.sums import gathered
from sslkit.objectives.base import Objective, Scene, Term, in_float32
from sslkit.recipe.sections import HeadSection

EPSILON = 1e-8  # two equal features have a loss, and a gradient of 0


def nearest_distances(features: Tensor) -> Tensor:
    """(N, D) -> (N,): from each normalised feature to the nearest other one, in [0, 2]."""
    unit = F.normalize(features, dim=-1)
    with torch.no_grad():
        cosines = (unit @ unit.T).fill_diagonal_(-torch.inf)
        nearest = cosines.argmax(-1)
    # Not sqrt(2 - 2 cos): in float32 that is noise for close neighbours, which matter most here.
    return (unit - unit[nearest]).norm(dim=-1)


def loss(distances: Tensor) -> Tensor:
    """(N,) as from ``nearest_distances`` -> 0-dim."""
    return -(distances + EPSILON).log().mean()


class Koleo(Objective):
    """KoLeo of the student's CLS tokens of global views, or of their embeddings where a head is named."""

    couples_batch = True

    class Config(Objective.Config):
        """DINOv2 gives it weight 0.1."""

        head: str | None = None

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.reads_cls = head is not None

    def forward(self, scene: Scene) -> Term:
        """The mean over global views."""
        student = scene.student
        features = student.heads[self.head].embedding if self.head else student.cls
        with in_float32(features):
            views = [nearest_distances(gathered(view.float())) for view in features[: scene.global_views]]
            value = torch.stack([loss(view) for view in views]).mean()
        return Term(value, {"nearest_distance": torch.stack(views).detach().mean()})
