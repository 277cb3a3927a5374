"""Attention as a loss: against loops written from the equations, what must not matter, and where gradients go."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.layers import attention as timm_attention
from tiny_batches import batch_of

from sslkit.diagnostics import collapses
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError
from sslkit.heads.dino import PrototypeHead
from sslkit.masks.base import Masks
from sslkit.methods.joint_embedding import JointEmbedding
from sslkit.objectives import attention_distill, attention_pool, attention_weighted, head_diversity, ibot
from sslkit.objectives.base import BranchOutput, PatchOutput, Scene
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
VIEWS, BATCH, HEADS, PATCHES, WIDTH, PROTOTYPES = 2, 3, 4, 9, 6, 5
CROPS = VIEWS * BATCH
SECTION = PrototypeHead.Config(out=PROTOTYPES, hidden=8, bottleneck=4)
ALL_FOUR = ("attention_distill", "attention_pool", "attention_weighted", "head_diversity")
CLASSES = {
    "attention_distill": attention_distill.AttentionDistill,
    "attention_pool": attention_pool.AttentionPool,
    "attention_weighted": attention_weighted.AttentionWeighted,
    "head_diversity": head_diversity.HeadDiversity,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def objective(name: str, **settings):
    built = CLASSES[name](CLASSES[name].Config(**settings), SECTION)
    if hasattr(built, "center"):
        built.center.copy_(torch.linspace(-0.5, 0.5, PROTOTYPES))
    return built


def attention() -> torch.Tensor:
    """(G, B, H, N), rows that leave a part to CLS."""
    return torch.randn(VIEWS, BATCH, HEADS, PATCHES + 1).mul(2).softmax(-1)[..., 1:]


def masks_of(counts: list[int]) -> Masks:
    mask = torch.zeros(CROPS, PATCHES, dtype=torch.bool)
    for row, count in zip(mask, counts, strict=True):
        row[torch.randperm(PATCHES)[:count]] = True
    return Masks(mask, np.array(counts))


def scene_of(masks: Masks | None = None) -> Scene:
    """Two branches with attention, patches, one head and logits of hidden tokens; the student's carry gradients."""
    masks = masks or masks_of([4, 0, 1, 9, 2, 3])
    branches = []
    for learns in (True, False):
        row, patches = attention(), torch.randn(VIEWS, BATCH, PATCHES, WIDTH)
        logits = torch.randn(len(masks.index), PROTOTYPES)
        for tensor in (row, patches, logits):
            tensor.requires_grad_(learns)
        head = PrototypeHead(WIDTH, SECTION).requires_grad_(learns)
        torch.nn.init.normal_(head.mlp[0].weight)
        hidden = {"prototypes": PatchOutput(logits, torch.randn(PROTOTYPES))}
        branches.append(BranchOutput(patches[..., 0, :], patches, row, {}, hidden, {"prototypes": head}))
    return Scene(branches[0], branches[1], masks, AT, VIEWS)


def changed(scene: Scene, **edits) -> Scene:
    """A scene whose branches' tensors went through functions, by attribute."""

    def branch(old: BranchOutput) -> BranchOutput:
        fields = {name: edit(getattr(old, name)) for name, edit in edits.items()}
        return BranchOutput(**{**old.__dict__, **fields})

    assert scene.teacher is not None
    return Scene(branch(scene.student), branch(scene.teacher), scene.masks, scene.at, scene.global_views)


# Against loops.


def naive_rows(row: torch.Tensor, heads: str) -> np.ndarray:
    """(H, N) -> a list of distributions over patches."""
    rows = row.detach().double().numpy()
    rows = rows.mean(0, keepdims=True) if heads == "mean" else rows
    return np.stack([r / r.sum() for r in rows])


@pytest.mark.parametrize("heads", ["mean", "each"])
@pytest.mark.parametrize("power", [1.0, 3.0])
def test_distillation_equals_a_loop(heads, power):
    scene = scene_of()
    losses, entropies, students = [], [], []
    for v in range(VIEWS):
        for b in range(BATCH):
            ours = naive_rows(scene.student.attention[v, b], heads)
            theirs = naive_rows(scene.teacher.attention[v, b], heads) ** power
            for p, q in zip(theirs, ours, strict=True):
                p = p / p.sum()
                losses.append(-sum(p[i] * math.log(q[i]) for i in range(PATCHES)))
                entropies.append(-sum(p[i] * math.log(p[i]) for i in range(PATCHES)))
                students.append(-sum(q[i] * math.log(q[i]) for i in range(PATCHES)))
    term = objective("attention_distill", heads=heads, power=power)(scene)
    assert term.loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert term.metrics["teacher_attention_entropy"].item() == pytest.approx(np.mean(entropies), rel=1e-5)
    assert term.metrics["student_attention_entropy"].item() == pytest.approx(np.mean(students), rel=1e-5)
    assert term.metrics["kl"].item() == pytest.approx(np.mean(losses) - np.mean(entropies), rel=1e-4)


@pytest.mark.parametrize(("weight", "margin"), [(0.0, 0.0), (0.5, 0.0), (2.0, 0.3)])
def test_pooling_equals_a_loop(weight, margin):
    scene = scene_of()
    tuned = objective("attention_pool", push=weight, margin=margin)
    pools = {}
    with torch.no_grad():
        for v in range(VIEWS):
            for b in range(BATCH):
                (a,) = naive_rows(scene.teacher.attention[v, b], "mean")
                away = (a.max() - a) / (a.max() - a).sum()
                for side in ("student", "teacher"):
                    x = getattr(scene, side).patches[v, b]
                    for part, weights in (("foreground", a), ("background", away)):
                        token = sum(float(weights[i]) * x[i] for i in range(PATCHES))
                        pools[side, part, v, b] = getattr(scene, side).modules["prototypes"](token)
    entropies, pushes = [], []
    for s in range(VIEWS):
        for t in range(VIEWS):
            for b in range(BATCH):
                if s == t:
                    continue
                ours, theirs = pools["student", "foreground", s, b], pools["teacher", "foreground", t, b]
                p = ((theirs.scores - tuned.center) / 0.04).softmax(-1)
                entropies.append(-(p * (ours.scores / 0.1).log_softmax(-1)).sum().item())
                e, away = ours.embedding, pools["teacher", "background", t, b].embedding
                pushes.append(max(0.0, (e @ away / e.norm() / away.norm()).item() - margin))
    assert max(pushes) > 0
    assert min(pushes) < max(pushes)
    term = tuned(scene)
    assert term.loss.item() == pytest.approx(np.mean(entropies) + weight * np.mean(pushes), rel=1e-4)
    assert ("push" in term.metrics) == (weight > 0)
    every = [pools["teacher", "foreground", v, b].scores for v in range(VIEWS) for b in range(BATCH)]
    torch.testing.assert_close(term.statistics["mean_logits"], torch.stack(every).mean(0), rtol=1e-4, atol=1e-5)
    kl = np.mean(entropies) - term.metrics["teacher_entropy"].item()  # the push is no part of it
    assert term.metrics["kl"].item() == pytest.approx(kl, abs=1e-4)


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_weighting_equals_a_loop(blend):
    scene = scene_of()
    tuned, losses, place = objective("attention_weighted", blend=blend), [], 0
    student, teacher = scene.student.hidden["prototypes"].logits, scene.teacher.hidden["prototypes"].logits
    for crop in range(CROPS):
        a = scene.teacher.attention.flatten(0, 1)[crop].mean(0).double().numpy()
        hidden = [i for i in range(PATCHES) if scene.masks.mask[crop, i]]
        total = 0.0
        for i in hidden:
            p = ((teacher[place] - tuned.center) / 0.04).softmax(-1)
            h = -(p * (student[place] / 0.1).log_softmax(-1)).sum().item()
            total += h * ((1 - blend) / len(hidden) + blend * a[i] / sum(a[j] for j in hidden))
            place += 1
        losses.append(total)
    assert tuned(scene).loss.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_diversity_equals_a_loop():
    scene = scene_of()
    cosines = []
    for crop in scene.student.attention.detach().flatten(0, 1).double().numpy():
        for g in range(HEADS):
            for h in range(g):
                cosines.append(crop[g] @ crop[h] / np.linalg.norm(crop[g]) / np.linalg.norm(crop[h]))
    assert objective("head_diversity")(scene).loss.item() == pytest.approx(np.mean(cosines), rel=1e-5)


# Their extremes.


def test_heads_that_share_no_patch_give_0_and_heads_that_agree_1():
    apart = torch.eye(HEADS, PATCHES).expand(2, 3, -1, -1)
    together = torch.rand(2, 3, 1, PATCHES).expand(-1, -1, HEADS, -1)
    assert head_diversity.loss(apart).item() == pytest.approx(0, abs=1e-6)
    assert head_diversity.loss(together).item() == pytest.approx(1, abs=1e-6)


def test_distillation_is_least_when_the_student_attends_as_the_teacher_does():
    scene = scene_of()
    agreeing = Scene(scene.teacher, scene.teacher, scene.masks, AT, VIEWS)
    term = objective("attention_distill", heads="each")(agreeing)
    assert term.metrics["kl"].item() == pytest.approx(0, abs=1e-5)
    assert term.loss < objective("attention_distill", heads="each")(scene).loss


def test_even_attention_weights_like_ibot_and_so_does_a_blend_of_0():
    scene = scene_of()
    plain = ibot.Ibot(ibot.Ibot.Config(), SECTION)
    plain.center.copy_(torch.linspace(-0.5, 0.5, PROTOTYPES))
    expected = plain(scene)
    even = objective("attention_weighted")(changed(scene, attention=lambda a: torch.full_like(a, 1 / PATCHES)))
    torch.testing.assert_close(even.loss, expected.loss, rtol=1e-6, atol=0)
    none = objective("attention_weighted", blend=0.0)(scene)
    assert torch.equal(none.loss, expected.loss)
    assert objective("attention_weighted")(scene).loss != expected.loss
    for key, value in expected.statistics.items():
        assert torch.equal(none.statistics[key], value)


def test_weights_sum_to_1_over_each_masked_crop():
    masks = masks_of([4, 0, 1, 9, 2, 3])
    weights = attention_weighted.shares(attention().mean(-2).flatten(0, 1), masks)
    crops = masks.index // PATCHES
    sums = torch.zeros(CROPS).index_add_(0, crops, weights)
    torch.testing.assert_close(sums, torch.tensor(masks.counts > 0, dtype=torch.float32))


def test_nothing_hidden_gives_zero_with_a_gradient():
    scene = scene_of(masks_of([0] * CROPS))
    loss = objective("attention_weighted")(scene).loss
    loss.backward()
    assert loss == 0
    assert scene.student.hidden["prototypes"].logits.grad is not None


def test_the_background_is_what_the_teacher_attends_to_least():
    row = torch.tensor([0.6, 0.3, 0.1, 0.0])
    torch.testing.assert_close(attention_pool.complement(row), torch.tensor([0, 3, 5, 6]) / 14, rtol=1e-4, atol=1e-5)
    # Even attention has no foreground: the background is then the mean.
    torch.testing.assert_close(attention_pool.complement(torch.full((4,), 0.25)), torch.full((4,), 0.25))


def test_a_sharp_row_keeps_its_sum_at_any_power():
    row = torch.full((1, 196), 1 / 196)
    torch.testing.assert_close(attention_distill.sharpened(row, 20.0), row)
    peaked = attention_distill.sharpened(torch.tensor([0.6, 0.4]), 30.0)
    assert peaked[0] > 0.99
    assert peaked.sum().item() == pytest.approx(1)


def test_attention_that_left_the_patches_gives_no_nan():
    scene = changed(scene_of(), attention=lambda a: torch.zeros_like(a, requires_grad=True))
    for name in ALL_FOUR:
        loss = objective(name)(scene).loss
        loss.backward()
        assert torch.isfinite(loss), name


# What must not matter.


@pytest.mark.parametrize("name", ALL_FOUR)
def test_the_scale_of_attention_does_not_matter(name):
    scene = scene_of()
    scaled = changed(scene, attention=lambda a: a * 0.01)
    torch.testing.assert_close(objective(name)(scaled).loss, objective(name)(scene).loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["attention_distill", "attention_pool", "head_diversity"])
def test_the_order_of_the_batch_does_not_matter(name):
    scene, order = scene_of(), torch.tensor([2, 0, 1])
    moved = changed(scene, attention=lambda a: a[:, order], patches=lambda x: x[:, order])
    torch.testing.assert_close(objective(name)(moved).loss, objective(name)(scene).loss)


@pytest.mark.parametrize("name", ALL_FOUR)
def test_the_order_of_the_heads_does_not_matter(name):
    scene, order = scene_of(), torch.tensor([3, 1, 0, 2])
    moved = changed(scene, attention=lambda a: a[:, :, order])
    torch.testing.assert_close(objective(name)(moved).loss, objective(name)(scene).loss)


def test_the_order_of_the_student_s_heads_does_not_matter_for_diversity_and_does_for_each():
    scene, order = scene_of(), torch.tensor([3, 1, 0, 2])
    student = BranchOutput(**{**scene.student.__dict__, "attention": scene.student.attention[:, :, order]})
    moved = Scene(student, scene.teacher, scene.masks, AT, VIEWS)
    for name, settings, same in (("head_diversity", {}, True), ("attention_distill", {"heads": "each"}, False)):
        one, other = (objective(name, **settings)(s).loss for s in (scene, moved))
        assert torch.isclose(one, other) == same


def test_logged_entropies_of_attention_are_no_verdict_on_the_targets():
    scene = changed(scene_of(), attention=lambda a: torch.full_like(a, 0.1))
    for name in ("attention_distill", "head_diversity"):
        metrics = {f"{name}/{k}": v.item() for k, v in objective(name)(scene).metrics.items()}
        assert not collapses(metrics)


# Where gradients go.


@pytest.mark.parametrize(
    ("name", "learns"),
    [
        ("attention_distill", {"attention"}),
        ("head_diversity", {"attention"}),
        ("attention_pool", {"patches"}),
        ("attention_weighted", {"hidden"}),
    ],
)
def test_only_what_is_compared_gets_a_gradient_and_the_teacher_none(name, learns):
    scene = scene_of()
    # Even a teacher whose tensors could take a gradient gets none through its attention.
    scene.teacher.attention.requires_grad_()
    objective(name)(scene).loss.backward()
    tensors = {
        "attention": scene.student.attention,
        "patches": scene.student.patches,
        "hidden": scene.student.hidden["prototypes"].logits,
    }
    assert {key for key, tensor in tensors.items() if tensor.grad is not None and tensor.grad.abs().sum() > 0} == learns
    teacher = scene.teacher
    mine = [teacher.attention, teacher.patches, teacher.hidden["prototypes"].logits]
    assert all(t.grad is None for t in [*mine, *teacher.modules["prototypes"].parameters()])


@pytest.fixture
def build(tiny_scale):
    def make(*overrides: str) -> JointEmbedding:
        return JointEmbedding(resolve([find("attmask"), tiny_scale], ["mask.probability=1.0", *overrides]))

    return make


def alone(name: str) -> list[str]:
    return ["objectives.dino=null", "objectives.ibot=null", f"objectives.{name}.weight=1.0"]


@pytest.mark.parametrize("name", ["attention_distill", "head_diversity"])
def test_attention_alone_teaches_queries_keys_and_what_is_below(build, name):
    method = build(*alone(name))
    method(batch_of(method), AT).loss.backward()
    first, last = method.student.encoder.model.blocks
    query, key, value = last.attn.qkv.weight.grad.chunk(3)
    assert query.abs().sum() > 0
    assert key.abs().sum() > 0
    assert value.abs().sum() == 0
    assert all(p.grad is None for p in [*last.attn.proj.parameters(), *last.mlp.parameters()])
    assert all(first.attn.qkv.weight.grad.chunk(3)[part].abs().sum() > 0 for part in range(3))
    assert method.student.encoder.mask_token.grad.abs().sum() > 0
    assert all(p.grad is None for p in method.teacher.parameters())


# What the method computes for them.


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("ibot", 0),
        ("attention_pool", 1),  # the teacher's
        ("attention_weighted", 1),
        ("attention_distill", 2),
    ],
)
def test_no_row_is_computed_that_nobody_reads(build, monkeypatch, name, rows):
    method, calls, honest = build(*alone(name), "mask.strategy=random"), [], Encoder._cls_attention
    monkeypatch.setattr(Encoder, "_cls_attention", lambda *a: calls.append(1) or honest(*a))
    method(batch_of(method), AT).loss.backward()
    assert len(calls) == rows


def test_every_block_keeps_its_fused_attention(build, monkeypatch):
    method = build(*(f"objectives.{name}.weight=1.0" for name in ALL_FOUR))
    attns = [m for m in method.modules() if isinstance(m, timm_attention.Attention)]
    flags, calls = [a.fused_attn for a in attns], []
    functional = timm_attention.F
    spy = SimpleNamespace(**{k: getattr(functional, k) for k in dir(functional) if not k.startswith("__")})

    def counted(*arguments, **keywords):
        calls.append(1)
        return functional.scaled_dot_product_attention(*arguments, **keywords)

    spy.scaled_dot_product_attention = counted
    monkeypatch.setattr(timm_attention, "F", spy)
    for attn in attns:
        attn.fused_attn = True
    method(batch_of(method), AT).loss.backward()
    assert all(a.fused_attn for a in attns)
    assert len(flags) == 4
    # Two blocks: of the teacher, of the student on global crops, and on local ones, where the last does CLS alone.
    assert len(calls) == 5


def test_reading_attention_changes_no_token():
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3))
    images, mask = torch.randn(3, 3, 32, 32), torch.rand(3, 16) < 0.4
    with_row, without = encoder(images, mask=mask, attention=True), encoder(images, mask=mask)
    assert torch.equal(with_row.cls, without.cls)
    assert torch.equal(with_row.patches, without.patches)
    assert without.attention is None
    assert with_row.attention.shape == (3, 3, 16)


def test_a_step_with_all_four_lowers_their_sum(build):
    method = build("encoder.drop_path=0", *(f"objectives.{name}.weight=1.0" for name in ALL_FOUR))
    batch = batch_of(method)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    before = method(batch, AT).loss.detach()
    for _ in range(5):
        method(batch, AT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = method(batch, AT)
    assert after.loss < before
    method.after_step(after.statistics, AT)
    assert method.state_dict()["objectives.attention_pool.center"].abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("head_diversity", "encoder.heads=1", "head_diversity compares heads, and the encoder has one"),
        ("attention_pool", "views.global.count=1", "views.global.count must be at least 2"),
        ("attention_distill", "teacher=null", "objective attention_distill needs a teacher"),
        ("attention_weighted", "mask=null", "objective attention_weighted needs a mask"),
    ],
)
def test_what_cannot_be_compared_is_refused(build, name, setting, message):
    settings = ["mask.strategy=random", "views.augment={blur: 0, solarize: 0}"]
    if setting == "mask=null":
        settings = []
    with pytest.raises(UsageError, match=message):
        method = build(*alone(name), *settings, setting)
        method(batch_of(method), AT)
