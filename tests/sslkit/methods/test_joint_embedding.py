"""The method: where gradients go, what moves after a step, and that no shortcut changes the mathematics."""

import numpy as np
import pytest
import torch
from tiny_batches import batch_of
from tiny_methods import RECIPES

from sslkit import registry
from sslkit.data.augment import photometric
from sslkit.data.batch import Batch
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.errors import UsageError
from sslkit.methods.base import drop_scales
from sslkit.methods.joint_embedding import JointEmbedding
from sslkit.recipe.schema import Recipe, resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
METHODS = [n for n in RECIPES if resolve([find(n)]).method.name == "joint_embedding"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def build(tiny_scale):
    def make(method="attmask", *overrides: str) -> JointEmbedding:
        return JointEmbedding(recipe_of(tiny_scale, method, *overrides))

    return make


def recipe_of(scale, method, *overrides: str) -> Recipe:
    return resolve([find(method), scale], overrides)


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_trains_the_student_and_only_the_student(build, name):
    method = build(name)
    losses = method(batch_of(method), AT)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    without = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, "a parameter that gets no gradient breaks DistributedDataParallel"
    assert method.teacher is None or all(p.grad is None for p in method.teacher.parameters())
    assert losses.metrics["loss"] == losses.loss.detach()


def test_the_shortcuts_change_nothing(build):
    """Heads on hidden tokens only, and the mean of all logits from one product: against every token in full."""
    method = build("attmask", "mask.probability=1.0")
    batch = batch_of(method)
    losses = method(batch, AT)
    views = [photometric(c, d) for c, d in zip(batch.crops, batch.photometric, strict=True)]
    encoder, head = method.teacher.encoder, method.teacher.heads["prototypes"]
    with torch.no_grad():
        seen = encoder(views[0].flatten(0, 1), attention=True)
        every = head.logits(head.embed(seen.patches.flatten(0, 1)))
    torch.testing.assert_close(losses.statistics["ibot/mean_logits"], every.mean(0))
    masks = method.masking.draw(0, AT.step, np.arange(4), 2, (4, 4), seen.attention.mean(1))
    student, own = method.student.encoder, method.student.heads["prototypes"]
    drop = drop_scales(student, batch, 2, AT, 0)
    tokens = student(views[0].flatten(0, 1), mask=masks.mask, drop=drop)
    logits = own.logits(own.embed(tokens.patches)).div(0.1).log_softmax(-1)
    temperature = 0.04 + 0.03 * (0.3 / 3)  # a tenth of the way through the warm-up of 3 epochs
    targets = (every / temperature).softmax(-1).view_as(logits)
    per_token = -(targets * logits).sum(-1)
    per_crop = (per_token * masks.mask).sum(1) / masks.mask.sum(1).clamp_min(1)
    torch.testing.assert_close(losses.metrics["ibot/loss"], per_crop.mean().detach(), rtol=1e-4, atol=1e-5)


def test_after_step_moves_the_teacher_and_the_centres_and_the_loss_does_not(build):
    method = build("attmask")
    before = {k: v.clone() for k, v in method.state_dict().items()}
    losses = method(batch_of(method), AT)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    method.after_step(losses.statistics, AT)
    after = method.state_dict()
    momentum = 1.0 + (0.99 - 1.0) * (1 + np.cos(np.pi * 0.03)) / 2
    key = "teacher.encoder.model.blocks.0.attn.qkv.weight"
    torch.testing.assert_close(after[key], before[key] + (1 - momentum))
    for name in ("dino", "ibot"):
        expected = 0.1 * losses.statistics[f"{name}/mean_logits"]
        torch.testing.assert_close(after[f"objectives.{name}.center"], expected)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_a_temperature_moves_towards_the_entropy_asked_for(build, probability):
    steered = [f"objectives.{name}.target_entropy=0.5" for name in ("dino", "ibot")]
    method = build("attmask", f"mask.probability={probability}", *steered)
    losses = method(batch_of(method), AT)
    method.after_step(losses.statistics, AT)
    masks = method.masking.draw(0, AT.step, np.arange(4), 2, (4, 4), torch.rand(8, 16))
    # Patches in crops without a mask are not counted: a step in which half are masked moves half as far.
    for name, counted in {"dino": 1.0, "ibot": float((masks.counts > 0).mean())}.items():
        over = losses.metrics[f"{name}/teacher_entropy"] / losses.metrics[f"{name}/ln_k"] - 0.5
        assert abs(over) > 0.01
        wanted = (0.04 * (-counted * over / 10).exp()).clamp(max=0.1)
        torch.testing.assert_close(method.objectives[name].temperature, wanted)
        torch.testing.assert_close(losses.metrics[f"{name}/temperature"], torch.tensor(0.04))


def test_accumulated_micro_batches_give_the_gradient_of_the_whole(build):
    method = build("attmask")
    batch = batch_of(method, 8)

    def part(rows: slice) -> Batch:
        crops = [c[:, rows] for c in batch.crops]
        return Batch(batch.samples[rows], batch.labels[rows], crops, [d[:, rows] for d in batch.photometric])

    def gradient(parts):
        method.zero_grad()
        for p in parts:
            (method(p, AT).loss / len(parts)).backward()
        return torch.cat([p.grad.flatten() for p in method.parameters() if p.requires_grad])

    whole = gradient([batch])
    torch.testing.assert_close(gradient([part(slice(0, 4)), part(slice(4, 8))]), whole, rtol=1e-3, atol=1e-6)


def test_a_batch_in_which_nothing_is_masked_still_touches_everything(build):
    method = build("attmask", "mask.probability=1e-9")
    losses = method(batch_of(method), AT)
    assert losses.metrics["ibot/loss"] == 0
    losses.loss.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_last_layers_are_frozen_at_first(build):
    method = build("attmask", "heads.prototypes.frozen=2")
    frozen = list(method.frozen_parameters(AT))
    assert {id(p) for p in frozen} == {id(p) for p in method.student.heads["prototypes"].last_layer()}
    assert not list(method.frozen_parameters(Moment(20, 10, 10)))


def test_the_teacher_has_no_drop_path_and_ignores_the_mask(build):
    method = build("attmask", "encoder.drop_path=0.9", "mask.probability=1.0")
    batch = batch_of(method)
    one, two = (method(batch, Moment(step, 10, 10)) for step in (3, 4))  # other masks and other drops
    torch.testing.assert_close(one.statistics["dino/mean_logits"], two.statistics["dino/mean_logits"])
    assert one.loss != two.loss


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("dino", ["objectives=null", "objectives={}"], "no objectives"),
        ("dino", ["teacher=null"], "objective dino needs a teacher"),
        ("ibot", ["mask=null"], "objective ibot needs a mask"),
        ("ibot", ["encoder={arch: resnet18}", "encoder.image_size=32"], "resnet18"),
        ("attmask", ["teacher=null", "objectives=null"], "no objectives"),
        # The grid is 4 x 4.
        ("ibot", ["mask.probability=0"], "mask.probability is 0: the masks hide nothing"),
        ("ibot", ["mask.ratio=[0.0,0.06]"], r"mask.ratio \[0.0, 0.06\] hides none of 16 patches: it must reach 0.0625"),
        ("attmask", ["mask.ratio=0.05"], "hides none of 16 patches"),
        ("dino", ["mask={strategy: random, ratio: 0.05}"], "hides none of 16 patches"),
        ("ibot", ["mask.ratio=1.0", "mask.probability=1"], "hides all of 16 patches of every crop"),
        ("attmask-hint", ["mask.hint_share=1.0", "mask.ratio=0.5"], "mask.hint_share 1 reveals all"),
    ],
)
def test_contradictions_are_named_before_any_data_is_read(tiny_scale, method, overrides, message):
    with pytest.raises(UsageError, match=message):
        JointEmbedding(recipe_of(tiny_scale, method, *overrides))


@pytest.mark.parametrize("name", registry.names("sslkit.objectives"))
def test_a_resnet_trains_with_whatever_needs_no_patches_and_refuses_the_rest(name):
    kind = registry.load("sslkit.objectives", name)
    settings = ["encoder={arch: resnet18, image_size: 32}", "views.augment={blur: 0, solarize: 0}"]
    settings += ["views.local.count=0", "heads={prototypes: {out: 16}, projector: {kind: projector, out: 16}}"]
    settings += [f"objectives.{name}.weight=1", *(["objectives.dino=null"] if name != "dino" else [])]
    if kind.reads_hidden:
        settings.append("mask={strategy: random}")
    recipe = resolve([find("dino")], settings)
    if kind.reads_hidden or kind.reads_patches or kind.reads_attention:
        with pytest.raises(UsageError, match=f"objective {name} needs patch tokens, which resnet18 does not have"):
            JointEmbedding(recipe)
        return
    method = JointEmbedding(recipe)
    pixels = torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8)
    views = ViewMaker(method.recipe.views, 32, 1, 0)
    batch = ViewBatches(DecodedImages(pixels, np.zeros(4, dtype=np.int64)), views)[0, np.arange(4)]
    losses = method(batch, AT)
    losses.loss.backward()
    method.after_step(losses.statistics, AT)
    assert torch.isfinite(losses.loss)
    assert method.student.encoder.model.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("strategy", ["random", "attention"])
def test_a_resnet_says_that_it_cannot_be_masked(strategy):
    settings = ["encoder={arch: resnet18, image_size: 32}", f"mask={{strategy: {strategy}}}"]
    with pytest.raises(UsageError, match="masks need patch tokens, which resnet18 does not have"):
        JointEmbedding(resolve([find("dino")], settings))


def test_one_step_lowers_the_loss_on_its_batch(build):
    method = build("attmask", "encoder.drop_path=0")
    batch = batch_of(method)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    before = method(batch, AT).loss
    for _ in range(5):
        method(batch, AT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert method(batch, AT).loss < before


def test_the_state_dict_is_the_whole_state(build):
    method = build("attmask")
    batch = batch_of(method)
    method.after_step(method(batch, AT).statistics, AT)  # the centres move away from 0
    torch.manual_seed(1)
    other = build("attmask")
    assert not torch.equal(method(batch, AT).loss, other(batch, AT).loss)
    other.load_state_dict(method.state_dict())
    assert torch.equal(method(batch, AT).loss, other(batch, AT).loss)


def test_a_head_that_no_objective_uses_is_not_trained(build):
    method = build("dino", "heads.spare={kind: projector, out: 8, hidden: 8}")
    assert not any(p.requires_grad for p in method.student.heads["spare"].parameters())
    assert all(p.requires_grad for p in method.student.heads["prototypes"].parameters())


def test_one_view_has_nothing_to_be_compared_with(build):
    one = ["views.global.count=1", "views.local.count=0", "views.augment={blur: 0, solarize: 0}"]
    method = build("dino", *one)
    with pytest.raises(UsageError, match=r"views\.global\.count"):
        method(batch_of(method), AT)


def test_prototypes_that_no_objective_looks_at_are_not_trained(build):
    method = build("dino-barlow-shared", "objectives.dino=null")
    head = method.student.heads["prototypes"]
    assert not any(p.requires_grad for p in head.last_layer())
    assert all(p.requires_grad for p in head.mlp.parameters())
    method(batch_of(method), AT).loss.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_an_mlp_that_an_unread_head_lends_is_trained(build):
    method = build("dino", "heads.mine={kind: dino, out: 8, trunk: prototypes}", "objectives.dino.head=mine")
    lender, mine = (method.student.heads[name] for name in ("prototypes", "mine"))
    assert all(p.requires_grad for p in mine.parameters())
    assert not lender.prototypes.requires_grad
