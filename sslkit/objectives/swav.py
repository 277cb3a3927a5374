"""SwAV: swapped assignments between views (arXiv:2006.09882).

Each view is compared with K prototypes; its code q_t, found so that the batch uses all prototypes equally
(Sinkhorn-Knopp at epsilon = 0.05), is predicted from the scores s of every other view:

    L = mean over pairs (t, s), s != t, of  H(q_t, softmax(z_s^T c / tau)).

Codes come from global crops only, predictions from all. The paper normalises the prototypes after each step; a head
with ``norm: fixed`` normalises them where they are used. There is no queue of earlier batches: the codes are balanced
over the batch of all processes.
"""

from typing import Literal

from pydantic import Field

from sslkit.diagnostics import assignment_metrics
from sslkit.losses.centering import sinkhorn
from sslkit.losses.prototype_cross_entropy import cross_view_cross_entropy as loss
from sslkit.objectives.base import Objective, Scene, Term
from sslkit.recipe.sections import HeadSection


class Swav(Objective):
    """Swapped prediction with the student's own codes, or the teacher's.

    Raises:
        UsageError: the head has no prototypes.
    """

    reads_cls = True
    reads_scores = True
    couples_batch = True

    class Config(Objective.Config):
        """Temperatures, and the branch that gives the codes."""

        against: Literal["student", "teacher"] = "student"
        temperature: float = Field(default=0.1, gt=0)
        epsilon: float = Field(default=0.05, gt=0)  # of Sinkhorn-Knopp; lower is sharper

    def __init__(self, config: Config, head: HeadSection | None):
        super().__init__(config, head)
        self.prototypes_of(head)
        self.settings = config
        self.needs_teacher = config.against == "teacher"

    def forward(self, scene: Scene) -> Term:
        """The loss over all pairs of a global crop's code and another crop's scores."""
        c = self.settings
        scores = scene.student.heads[self.head].scores
        branch = scene.teacher if c.against == "teacher" else scene.student
        assert branch is not None
        codes = sinkhorn(branch.heads[self.head].scores[: scene.global_views], c.epsilon)
        value = loss(scores, codes, c.temperature)
        return Term(value, assignment_metrics(codes.flatten(0, 1), value.detach()))
