"""Distillation: the loss by an oracle, grids and sizes that differ, and a teacher that nothing touches."""

import math

import numpy as np
import pytest
import torch

from sslkit.data.batch import Batch
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError
from sslkit.methods.distill import Distillation, as_input, loss, moments, on_one_grid, resampled, standardised
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def frozen(size=32, patch=8, width=36, **keys) -> FrozenEncoder:
    statistics = {key: keys.pop(key) for key in ("mean", "std") if key in keys}
    spec = EncoderSpec("vit_tiny_patch16_224", size, patch, width, 1, 3, **keys)
    torch.manual_seed(5)
    return FrozenEncoder(Encoder(spec), size, CPU, "fp32", **statistics)


def cnn() -> FrozenEncoder:
    return FrozenEncoder(Encoder(EncoderSpec("resnet10t", 32)), 32, CPU, "fp32")


@pytest.fixture
def build(tiny_scale):
    def make(teacher: FrozenEncoder, *overrides: str) -> Distillation:
        torch.manual_seed(0)
        recipe = resolve([find("distill"), tiny_scale], ["encoder.drop_path=0", *overrides])
        return Distillation(recipe, teacher=teacher)

    return make


def batch_of(method: Distillation, count=4) -> Batch:
    pixels = torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker(method.recipe.views, 32, 8, 0)
    return ViewBatches(DecodedImages(pixels, np.zeros(count, dtype=np.int64)), views)[0, np.arange(count)]


# The loss.


def test_the_loss_is_a_loop_over_tokens():
    prediction, target = 2 * torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    distances, cosines = [], []
    for p, z in zip(prediction.flatten(0, 1).double(), target.flatten(0, 1).double(), strict=True):
        dot, lengths = sum(a * b for a, b in zip(p, z, strict=True)), (sum(x * x for x in v) for v in (p, z))
        cosines.append(dot / math.sqrt(math.prod(lengths)))
        errors = [abs(a - b) for a, b in zip(p, z, strict=True)]
        distances.append(1 - cosines[-1] + sum(e * e / 2 if e < 1 else e - 0.5 for e in errors) / 8)
    value, cosine = loss(prediction, target)
    assert value.item() == pytest.approx(float(sum(distances)) / 15, rel=1e-5)
    assert cosine.item() == pytest.approx(float(sum(cosines)) / 15, rel=1e-5)


def test_targets_have_mean_0_and_deviation_1_in_every_dimension():
    """Whatever number of batches was seen, the averages are those of the data: nothing pulls them to their start."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(50, 4, 6, generator=generator) * torch.arange(1.0, 7.0) + 10
    assert torch.equal(standardised(data, torch.zeros(2, 6), torch.zeros(())), data)
    moving, seen = torch.zeros(2, 6), torch.zeros(())
    for batches in (1, 7):
        for _ in range(batches):
            moving, seen = moving.lerp(moments(data), 0.01), seen.lerp(torch.ones(()), 0.01)
        found = standardised(data, moving, seen)
        torch.testing.assert_close(found.mean((0, 1)), torch.zeros(6), rtol=0, atol=1e-3)
        torch.testing.assert_close(found.std((0, 1), correction=0), torch.ones(6), rtol=1e-2, atol=0)
    # So a constant is no good answer.
    assert loss(found.mean((0, 1)).expand_as(found), found)[0] > 0.9
    assert loss(found, found)[0] < 1e-6


def test_the_moments_move_once_a_step_and_belong_to_the_state(build):
    method = build(frozen())
    losses = method(batch_of(method), AT)
    assert not method.seen
    method.after_step(losses.statistics, AT)
    torch.testing.assert_close(method.cls_moments, 0.01 * losses.statistics["cls"])
    assert method.seen == pytest.approx(0.01)
    assert {"seen", "cls_moments", "patches_moments"} <= method.state_dict().keys()
    assert method(batch_of(method), AT).loss != losses.loss


def test_grids_meet_on_the_coarser_one():
    """A linear ramp over rows survives; the average over the image does, too, when blocks divide evenly."""
    student, teacher = torch.rand(2, 24, 5), torch.rand(2, 16, 7)
    a, b = on_one_grid(student, teacher, (4, 6), (4, 4))
    assert a.shape == (2, 16, 5)
    assert b is teacher
    fine = torch.arange(8.0).view(8, 1).expand(8, 8).reshape(1, 64, 1)
    coarse = resampled(fine, (8, 8), (4, 4)).view(4, 4)
    assert torch.allclose(coarse[1:3], torch.tensor([[2.5], [4.5]]).expand(2, 4))
    assert torch.allclose(coarse.T[0], coarse.T[1])  # rows stay rows
    assert torch.equal(resampled(fine, (8, 8), (8, 8)), fine)


def test_a_teacher_sees_pixels_by_its_own_mean_at_its_own_size():
    images = torch.randn(2, 3, 32, 32)
    assert as_input(images, frozen(), MEAN, STD) is images
    half = frozen(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(as_input(images, half, MEAN, STD), 2 * pixels - 1)
    assert as_input(images, frozen(size=48), MEAN, STD).shape == (2, 3, 48, 48)


# The method.


@pytest.mark.parametrize(
    ("teacher", "terms"),
    [
        (lambda: frozen(), {"cls", "patches"}),
        (lambda: frozen(size=48, patch=16), {"cls", "patches"}),  # 3 x 3 patches, the student has 4 x 4
        (lambda: frozen(size=48, patch=4), {"cls", "patches"}),  # 12 x 12
        (lambda: frozen(cls_token=False), {"cls", "patches"}),
        (cnn, {"cls"}),
    ],
    ids=["same grid", "coarser", "finer", "no CLS token", "CNN"],
)
def test_any_teacher_teaches_and_stays_as_it_is(build, teacher, terms):
    method = build(teacher())
    encoder, batch = method.teacher.encoder, batch_of(method)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    losses = method.train()(batch, AT)
    losses.loss.backward()
    assert set(losses.terms) == terms
    assert not encoder.training
    assert all(not p.requires_grad and p.grad is None for p in encoder.parameters())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    # It is neither the optimizer's nor the checkpoint's nor data parallelism's.
    assert not {id(p) for p in encoder.parameters()} & {id(p) for p in method.parameters()}
    assert not any("teacher" in key for key in method.state_dict())
    assert list(method.frozen_modules()) == [encoder]


def test_the_terms_are_those_of_the_tokens_projected_and_weighted(build):
    method = build(frozen(size=32), "method.cls=0.5", "method.patches=2.0")
    batch = batch_of(method)
    losses = method(batch, AT)
    from sslkit.data.augment import photometric

    images = photometric(batch.crops[0], batch.photometric[0]).flatten(0, 1)
    with torch.no_grad():
        student, teacher = method.student(images), method.teacher.encoder(images)
        wanted = [torch.nn.functional.layer_norm(tokens, (36,)) for tokens in (teacher.cls, teacher.patches)]
        cls = loss(method.projections["cls"](student.cls), wanted[0])[0]
        patches = loss(method.projections["patches"](student.patches), wanted[1])[0]
    torch.testing.assert_close(losses.loss.detach(), 0.5 * cls + 2 * patches)


def test_a_student_approaches_its_teacher(build):
    method = build(frozen())
    batch = batch_of(method)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    first = method(batch, AT).metrics
    for _ in range(20):
        losses = method(batch, AT)
        losses.loss.backward()
        optimizer.step()
        method.after_step(losses.statistics, AT)
        optimizer.zero_grad()
    last = method(batch, AT).metrics
    assert last["cls/cosine"] > first["cls/cosine"] + 0.2
    assert last["patches/cosine"] > first["patches/cosine"] + 0.1


def test_what_is_not_matched_is_said(build):
    assert build(frozen()).remarks == []
    assert build(cnn()).remarks == ["teacher resnet10t has no patch tokens: its pooled feature is matched"]
    sizes = [f"encoder.{key}=null" for key in ("patch_size", "width", "depth", "heads")]
    student = build(frozen(), "encoder.arch=resnet10t", *sizes)
    assert student.remarks == ["student resnet10t has no patch tokens: its pooled feature is matched"]


def test_both_see_the_same_channels(build):
    with pytest.raises(UsageError, match="the teacher takes images of 1 channels, the student 3"):
        build(frozen(channels=1))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.cls=0", "method.patches=0"], "nothing is matched"),
        (["mask.strategy=random"], "method distill takes no mask: --set mask=null"),
        (["teacher.momentum=[0.9,1.0]"], "method distill takes no teacher: --set teacher=null"),
        (["views.local.count=2"], "takes no local crops"),
    ],
)
def test_contradictions_are_named(build, overrides, message):
    with pytest.raises(UsageError, match=message):
        build(frozen(), *overrides)
