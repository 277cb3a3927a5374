"""Joint-embedding losses against published figures, loops from the equations, invariances, and a second process."""

import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from conftest import FIXTURES
from torch import Tensor, distributed, nn

from sslkit import registry
from sslkit.errors import UsageError
from sslkit.heads import base as heads
from sslkit.heads.dino import PrototypeHead
from sslkit.heads.projector import Projector
from sslkit.losses.centering import sinkhorn
from sslkit.objectives import barlow_twins, byol, info_nce, koleo, moco_v3, swav, vicreg
from sslkit.objectives.base import BranchOutput, Objective, Scene, Term
from sslkit.recipe.sections import HeadSection
from sslkit.schedules import Moment

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
D = 12  # the encoder's width
PROJECTOR = Projector.Config(out=10, hidden=16, layers=3)
ENDS_IN_A_NORM = Projector.Config(out=10, hidden=16, layers=3, last_norm=True)
PROTOTYPES = PrototypeHead.Config(out=14, hidden=16, bottleneck=6)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def oracle(name: str) -> dict[str, Tensor]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def make(name: str, head: HeadSection | None, **settings) -> Objective:
    kind: type[Objective] = registry.load("sslkit.objectives", name)
    return kind(kind.Config(**{"head": "h" if head else None, **settings}), head)


class Model(nn.Module):
    """An objective on a linear encoder and one head; the teacher is another copy of both."""

    def __init__(self, name: str, section: HeadSection | None, **settings):
        super().__init__()
        self.student, self.teacher = (
            nn.ModuleDict({"encoder": nn.Linear(D, D), "heads": heads.build(D, {"h": section} if section else {})})
            for _ in range(2)
        )
        self.teacher.requires_grad_(False)
        self.objective = make(name, section, **settings)

    def forward(self, views: Tensor, global_views: int = 2) -> Term:
        """(V, B, D) -> the objective's term."""
        branches = [branch(self.student, views), branch(self.teacher, views[:global_views])]
        return self.objective(Scene(*branches, None, AT, global_views))


def branch(side: nn.ModuleDict, views: Tensor) -> BranchOutput:
    cls = side["encoder"](views)
    return BranchOutput(cls, heads={name: head(cls) for name, head in side["heads"].items()})


def views_of(count: int = 3, batch: int = 8) -> Tensor:
    """(V, B, D): views of an image are alike, but not too much."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, batch, D, generator=generator) + 0.5 * torch.randn(count, batch, D, generator=generator)


# The published figures.


def test_barlow_twins_meets_the_published_figure():
    o = oracle("barlow_loss")
    value = barlow_twins.loss(barlow_twins.cross_correlation(o["z1"], o["z2"]), float(o["off_diagonal_weight"]))
    torch.testing.assert_close(value, o["loss"], rtol=1e-5, atol=0)


def test_byol_meets_the_published_figure():
    o = oracle("byol_loss")
    torch.testing.assert_close(byol.loss(o["prediction"], o["target"]), o["loss"], rtol=1e-5, atol=0)


def test_info_nce_meets_the_published_figure():
    o = oracle("simclr_loss")
    value = info_nce.loss(*info_nce.similarities(o["z1"], o["z2"], symmetric=True), float(o["temperature"]))
    torch.testing.assert_close(value, o["loss"], rtol=1e-5, atol=0)


def test_vicreg_meets_the_published_figure():
    o = oracle("vicreg_loss")
    value, parts = vicreg.loss(o["z1"], o["z2"], (25.0, 25.0, 1.0))
    torch.testing.assert_close(value, o["loss"], rtol=1e-5, atol=0)
    assert set(parts) == {"invariance", "variance", "covariance"}


# Loops from the equations.


def sinkhorn_by_loops(scores: np.ndarray, epsilon: float) -> np.ndarray:
    """(B, K) in float64; prototypes first, then samples, three times."""
    q = np.exp(scores.astype(np.float64) / epsilon)
    for _ in range(3):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for b in range(q.shape[0]):
            q[b] /= q[b].sum() * q.shape[0]
    return q * q.shape[0]


def test_swav_equals_a_loop_over_swapped_predictions():
    model, views = Model("swav", PROTOTYPES), views_of(4)
    scores = branch(model.student, views).heads["h"].scores.detach().numpy().astype(np.float64)
    terms = []
    for t in range(2):
        codes = sinkhorn_by_loops(scores[t], 0.05)
        for s in range(4):
            if s != t:
                p = np.exp(scores[s] / 0.1)
                p /= p.sum(1, keepdims=True)
                terms.append(-(codes * np.log(p)).sum(1).mean())
    term = model(views)
    assert term.loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert {"teacher_entropy", "marginal_entropy", "ln_k", "kl"} <= set(term.metrics)  # what the monitor reads
    assert "center_norm" not in term.metrics


def test_koleo_equals_a_loop_over_neighbours():
    features = torch.randn(7, 5)
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    nearest = [min((unit[i] - unit[j]).norm() for j in range(7) if j != i) for i in range(7)]
    expected = -sum(math.log(d) for d in nearest) / 7
    assert koleo.loss(koleo.nearest_distances(features)).item() == pytest.approx(expected, rel=1e-5)


def test_koleo_looks_at_each_global_view_of_the_student_by_itself():
    model, views = Model("koleo", None), views_of(3)
    cls = model.student["encoder"](views)
    each = [koleo.loss(koleo.nearest_distances(cls[view])) for view in range(2)]
    torch.testing.assert_close(model(views).loss, (each[0] + each[1]) / 2)
    twins = torch.ones(4, 5, requires_grad=True)  # no distance at all
    koleo.loss(koleo.nearest_distances(twins)).backward()
    assert torch.isfinite(twins.grad).all()


def test_koleo_can_look_at_a_heads_embedding():
    model, views = Model("koleo", PROTOTYPES), views_of(2)
    embedding = branch(model.student, views).heads["h"].embedding
    each = [koleo.loss(koleo.nearest_distances(view)) for view in embedding]
    torch.testing.assert_close(model(views).loss, (each[0] + each[1]) / 2)


def test_info_nce_against_a_teacher_equals_a_loop_over_targets():
    model, views = Model("info_nce", PROJECTOR, against="teacher", temperature=0.2), views_of(2)
    student = branch(model.student, views).heads["h"].embedding.detach().double()
    teacher = branch(model.teacher, views).heads["h"].embedding.double()
    terms, right = [], []
    for s, t in ((1, 0), (0, 1)):
        for i in range(8):
            cosines = [float(student[s, i] @ z / student[s, i].norm() / z.norm()) for z in teacher[t]]
            terms.append(-cosines[i] / 0.2 + math.log(sum(math.exp(c / 0.2) for c in cosines)))
            right.append(cosines[i] == max(cosines))
    term = model(views)
    assert term.loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert term.metrics["accuracy"].item() == pytest.approx(100 * np.mean(right))


def test_moco_v3_equals_a_loop_over_keys():
    """Equation 1 with the factor of algorithm 1; the teacher's embedding of the other view is the positive."""
    model, views = Model("moco_v3", PROJECTOR, temperature=0.3), views_of(2)
    embedded = branch(model.student, views).heads["h"].embedding
    queries = torch.stack([model.objective.predictor(view) for view in embedded]).detach().double()
    keys = branch(model.teacher, views).heads["h"].embedding.double()
    terms = []
    for s, t in ((1, 0), (0, 1)):
        for i in range(8):
            cosines = [float(queries[s, i] @ k / queries[s, i].norm() / k.norm()) for k in keys[t]]
            terms.append(2 * 0.3 * (-cosines[i] / 0.3 + math.log(sum(math.exp(c / 0.3) for c in cosines))))
    assert model(views).loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_simsiam_is_the_stopped_byol():
    """Algorithm 1: D(p1, z2) / 2 + D(p2, z1) / 2, D the negative cosine, z without gradient; here plus 1."""
    model, views = Model("byol", PROJECTOR, against="stopped"), views_of(2)
    z = branch(model.student, views).heads["h"].embedding
    p = [model.objective.predictor(view) for view in z]

    def distance(p: Tensor, z: Tensor) -> Tensor:
        p, z = p / p.norm(dim=1, keepdim=True), z.detach() / z.detach().norm(dim=1, keepdim=True)
        return -(p * z).sum(1).mean()

    wanted = distance(p[0], z[1]) / 2 + distance(p[1], z[0]) / 2
    found = 0.5 * model(views).loss
    torch.testing.assert_close(found, wanted + 1)
    trained = [*model.student.parameters(), *model.objective.parameters()]
    for ours, theirs in zip(
        *(torch.autograd.grad(x, trained, retain_graph=True) for x in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_barlow_twins_correlates_and_reports_what_it_found():
    z1, z2 = torch.randn(50, 4), torch.randn(50, 4)
    expected = torch.from_numpy(np.corrcoef(z1.T.numpy(), z2.T.numpy())[:4, 4:]).float()
    torch.testing.assert_close(barlow_twins.cross_correlation(z1, z2), expected, rtol=1e-3, atol=1e-4)
    _, metrics = make("barlow_twins", PROJECTOR).compare(z1, z2)
    off = expected[~torch.eye(4, dtype=torch.bool)]
    assert metrics["diagonal"].item() == pytest.approx(expected.diagonal().mean().item(), abs=1e-4)
    assert metrics["off_diagonal_rms"].item() == pytest.approx(off.square().mean().sqrt().item(), abs=1e-4)


# Invariances, and where gradients go.

EMBEDDING_LOSSES = {
    "barlow_twins": lambda a, b: barlow_twins.loss(barlow_twins.cross_correlation(a, b), 0.0051),
    "byol": byol.loss,
    "info_nce": lambda a, b: info_nce.loss(*info_nce.similarities(a, b, True), 0.1),
    "info_nce_teacher": lambda a, b: info_nce.loss(*info_nce.similarities(a, b, False), 0.1),
    "moco_v3": lambda a, b: moco_v3.loss(a, b, 0.2),
    "vicreg": lambda a, b: vicreg.loss(a, b, (25.0, 25.0, 1.0))[0],
    "koleo": lambda a, b: koleo.loss(koleo.nearest_distances(a)) + koleo.loss(koleo.nearest_distances(b)),
}


@pytest.mark.parametrize("name", EMBEDDING_LOSSES)
def test_the_order_of_images_and_the_scale_of_embeddings(name):
    loss, (a, b) = EMBEDDING_LOSSES[name], torch.randn(2, 20, 6)
    order = torch.randperm(20)
    torch.testing.assert_close(loss(a[order], b[order]), loss(a, b))
    if name != "koleo":  # it knows nothing of pairs
        assert not torch.isclose(loss(a[order], b), loss(a, b))
    assert torch.isclose(loss(3 * a, 7 * b), loss(a, b), rtol=1e-4) == (name != "vicreg")
    # One loss for both orders of the views, where there is no side that is stopped.
    if name not in ("info_nce_teacher", "moco_v3"):
        torch.testing.assert_close(loss(b, a), loss(a, b))


@pytest.mark.parametrize("name", ["barlow_twins", "byol", "info_nce", "moco_v3", "vicreg"])
@pytest.mark.parametrize("against", ["teacher", "stopped", "student"])
def test_gradients_go_only_where_they_belong(name, against):
    model = Model(name, PROJECTOR, against=against)
    views = views_of(2).requires_grad_()
    seen = {}
    for pair, (online, target) in enumerate(model.objective.pairs(scene_of(model, views))):
        value, _ = model.objective.compare(online, target)
        seen[pair] = torch.autograd.grad(value, views, retain_graph=True)[0].flatten(1).norm(dim=1) > 0
        assert target.requires_grad == (against == "student")
    # Pairs are (online 1, target 0) and (online 0, target 1); with gradient on both sides there is just the first.
    if against == "student":
        assert len(seen) == 1
        assert seen[0].all()
    else:
        assert [s.tolist() for s in seen.values()] == [[False, True], [True, False]]
    model(views).loss.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in [*model.student.parameters(), *model.objective.parameters()])


def scene_of(model: Model, views: Tensor, global_views: int = 2) -> Scene:
    return Scene(
        branch(model.student, views), branch(model.teacher, views[:global_views].detach()), None, AT, global_views
    )


@pytest.mark.parametrize(
    ("against", "views", "pairs"),
    [("student", "global", 1), ("student", "all", 5), ("teacher", "global", 2), ("stopped", "all", 6)],
)
def test_local_crops_meet_global_ones_when_asked_to(against, views, pairs):
    model = Model("barlow_twins", PROJECTOR, against=against, views=views)
    assert len(list(model.objective.pairs(scene_of(model, views_of(4))))) == pairs


def test_only_the_codes_of_swav_are_without_gradient():
    model, views = Model("swav", PROTOTYPES, against="teacher"), views_of(3)
    assert model.objective.needs_teacher
    assert not Model("swav", PROTOTYPES).objective.needs_teacher
    model(views).loss.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad.norm() > 0 for n, p in model.student.named_parameters() if "bias" not in n)
    scores = branch(model.student, views).heads["h"].scores
    targets = sinkhorn(branch(model.teacher, views).heads["h"].scores[:2], 0.05)
    torch.testing.assert_close(model(views).loss, swav.loss(scores, targets, 0.1))


@pytest.mark.parametrize("name", ["barlow_twins", "info_nce", "moco_v3", "vicreg", "koleo"])
def test_a_losss_own_products_are_not_rounded_under_autocast(name):
    """The branches may be computed in bf16; what is made of their outputs is not."""
    model, views = Model(name, None if name == "koleo" else PROJECTOR), views_of(2, 32)
    scene = scene_of(model, views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.objective(scene).loss
    assert torch.equal(rounded, model.objective(scene).loss)


def test_an_objective_that_cannot_work_says_so():
    with pytest.raises(UsageError, match="BarlowTwins needs a head"):
        make("barlow_twins", None)
    with pytest.raises(UsageError, match="needs a head with prototypes"):
        make("swav", PROJECTOR)
    with pytest.raises(UsageError, match="compares two views"):
        Model("vicreg", PROJECTOR)(views_of(1), global_views=1)


# A second process changes nothing.

CASES: dict[str, tuple[str, HeadSection | None, dict]] = {
    "barlow_twins": ("barlow_twins", PROJECTOR, {}),
    "barlow_twins at the bottleneck": ("barlow_twins", PROTOTYPES, {"against": "teacher", "views": "all"}),
    "byol": ("byol", PROJECTOR, {}),
    "info_nce": ("info_nce", PROJECTOR, {}),
    "info_nce against the teacher": ("info_nce", PROJECTOR, {"against": "teacher"}),
    "moco_v3": ("moco_v3", PROJECTOR, {}),
    "moco_v3 with a norm at the end": ("moco_v3", ENDS_IN_A_NORM, {"against": "stopped"}),
    "vicreg": ("vicreg", PROJECTOR, {}),
    "vicreg stopped": ("vicreg", PROJECTOR, {"against": "stopped"}),
    "swav": ("swav", PROTOTYPES, {}),
    "koleo": ("koleo", None, {}),
    "dino with sinkhorn": ("dino", PROTOTYPES, {"centering": "sinkhorn"}),
    "dino with BatchNorm": ("dino", PROTOTYPES.model_copy(update={"batch_norm": True}), {}),
}


def losses_and_gradients(rows: slice) -> dict[str, tuple[Tensor, Tensor]]:
    """For each case the loss of some rows of the batch, and its gradient with respect to everything trained."""
    found = {}
    for case, (name, section, settings) in CASES.items():
        torch.manual_seed(2)
        model = Model(name, section, **settings)
        term = model(views_of()[:, rows])
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(term.loss, trained, materialize_grads=True)
        found[case] = (term.loss.detach(), torch.cat([g.flatten() for g in gradients]))
    return found


def one_of_two(folder: Path) -> None:
    """A process that sees half of the batch."""
    warnings.simplefilter("error")
    rank = int(os.environ["RANK"])
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(losses_and_gradients(slice(4 * rank, 4 * rank + 4)), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict[str, tuple[Tensor, Tensor]]]:
    folder = tmp_path_factory.mktemp("gloo")
    assert ranks.exit_codes(ranks.start(one_of_two, 2, folder)) == [0, 0], ranks.said(folder, 2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one_process() -> dict[str, tuple[Tensor, Tensor]]:
    return losses_and_gradients(slice(None))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_loss_and_the_gradient_of_one(case, one_process, two_processes):
    """The mean over processes is what DistributedDataParallel takes."""
    loss, gradient = one_process[case]
    losses, gradients = (torch.stack([found[case][i] for found in two_processes]).mean(0) for i in range(2))
    torch.testing.assert_close(losses, loss, rtol=1e-5, atol=1e-6)
    assert gradient.norm() > 1e-4
    assert (gradients - gradient).norm() <= 2e-5 * gradient.norm()
