"""I-JEPA: blocks by the paper's numbers, what the student may not see, the loss by an oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_batches import batch_of, part

from sslkit import rng
from sslkit.errors import UsageError
from sslkit.methods.ijepa import Blocks, ImageJepa, block_size, loss
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
CONFIG = ImageJepa.Config(name="ijepa")


@pytest.fixture
def build(tiny_scale):
    def make(*overrides: str) -> ImageJepa:
        torch.manual_seed(0)
        return ImageJepa(resolve([find("ijepa"), tiny_scale], ["encoder.drop_path=0", *overrides]))

    return make


# The blocks.


def test_blocks_have_the_papers_sizes_at_the_papers_grid():
    """14 x 14 patches: targets of 15 to 20 %, aspect 0.75 to 1.5; a context of 85 to 100 % that has no target in it."""
    sizes = [block_size(rng.generator(0, "t", i), (14, 14), (0.15, 0.2), (0.75, 1.5)) for i in range(300)]
    shares = np.array([rows * columns / 196 for rows, columns in sizes])
    assert shares.min() > 0.12
    assert shares.max() < 0.23
    assert shares.mean() == pytest.approx(0.172, abs=0.01)
    aspects = np.array([rows / columns for rows, columns in sizes])
    assert aspects.min() >= 0.7
    assert aspects.max() <= 1.7
    assert {block_size(rng.generator(0, "c", i), (14, 14), (0.85, 1.0), (1.0, 1.0)) for i in range(99)} == {(13, 13)}
    for step in range(20):
        blocks = Blocks(CONFIG, (14, 14), rng.generator(0, "step", step))
        context, targets = blocks.draw(rng.generator(0, "crop", step))
        assert targets.shape == (4, blocks.target[0] * blocks.target[1])
        assert not set(context) & set(targets.ravel())
        assert 0.05 < len(context) / 196 < 0.6
        for block in targets:  # a full rectangle
            rows, columns = np.unique(block // 14), np.unique(block % 14)
            assert (len(rows), len(columns)) == blocks.target
            assert (np.diff(rows) == 1).all()
            assert (np.diff(columns) == 1).all()


@given(rows=st.integers(2, 9), columns=st.integers(2, 9), step=st.integers(0, 99))
@settings(max_examples=60)
def test_every_crop_of_a_step_has_as_many_patches_on_any_grid(rows, columns, step):
    blocks = Blocks(CONFIG, (rows, columns), rng.generator(1, "step", step))
    drawn = [blocks.draw(rng.generator(1, "crop", step, i)) for i in range(8)]
    assert {len(context) for context, _ in drawn} == {blocks.kept}
    assert blocks.kept >= 1
    for context, targets in drawn:
        assert len(set(context)) == len(context)
        assert not set(context) & set(targets.ravel())
        assert max(context.max(), targets.max()) < rows * columns


def test_blocks_depend_on_the_sample_and_not_on_its_batch(build):
    method = build()
    batch = batch_of(method)
    views = torch.zeros(1, 4, 3, 32, 32)
    context, targets = method._draw(batch, views, AT)
    for rows in (slice(0, 2), slice(2, 4)):
        found = method._draw(part(batch, rows), views[:, rows], AT)
        assert torch.equal(found[0], context[rows])
        assert torch.equal(found[1], targets[rows])
    assert not torch.equal(method._draw(batch, views, Moment(4, 10, 10))[1], targets)


# The loss and the model.


def test_the_loss_is_a_loop_over_tokens():
    prediction, target = 2 * torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    errors = []
    for p, t in zip(prediction.reshape(-1, 6).double(), target.reshape(-1, 6).double(), strict=True):
        mean = sum(t) / 6
        std = math.sqrt(sum((x - mean) ** 2 for x in t) / 6 + 1e-5)
        errors += [abs(a - (b - mean) / std) for a, b in zip(p, t, strict=True)]
    expected = sum(e * e / 2 if e < 1 else e - 0.5 for e in errors) / len(errors)
    assert loss(prediction, target).item() == pytest.approx(float(expected), rel=1e-5)


def test_targets_are_the_teachers_tokens_of_the_whole_crop_at_the_targets_places(build):
    method = build()
    batch = batch_of(method)
    from sslkit.data.augment import photometric

    views = photometric(batch.crops[0], batch.photometric[0])
    context, targets = method._draw(batch, views, AT)
    with torch.no_grad():
        whole = method.teacher(views[0]).patches
        tokens = method.student(views[0], keep=context).patches
        predicted = method.predictor(tokens, context, targets)
        by_hand = torch.stack([torch.stack([whole[c][block] for block in targets[c]]) for c in range(4)])
    assert torch.equal(method(batch, AT).loss, loss(predicted, by_hand))
    # Each block is predicted by itself: the others do not change it.
    alone = method.predictor(tokens, context, targets[:, 1:2])
    torch.testing.assert_close(alone[:, 0], predicted[:, 1], rtol=1e-4, atol=1e-5)


def test_the_student_sees_the_context_only(build):
    method = build()
    batch = batch_of(method)
    views = torch.randn(1, 4, 3, 32, 32)
    context, targets = method._draw(batch, views, AT)
    shown = torch.zeros(4, 16).scatter(1, context, 1.0).view(4, 1, 4, 4)
    shown = shown.repeat_interleave(8, 2).repeat_interleave(8, 3)
    other = views[0] * shown + 5 * (1 - shown)
    tokens = [method.student(images, keep=context).patches for images in (views[0], other)]
    assert torch.equal(*tokens)
    assert targets.shape[1] == 4


def test_the_preview_shows_context_and_targets(build):
    method = build()
    batch = batch_of(method)
    seen = method.preview(batch, AT)
    assert {title: tuple(crops.shape[:2]) for title, crops in seen.pictures.items()} == {
        "global": (1, 4),
        "target": (4, 4),
    }
    context, targets = method._draw(batch, seen.pictures["global"], AT)
    assert (~seen.masks[0]).sum(1).tolist() == [context.shape[1]] * 4
    drawn = seen.pictures["target"].abs().sum(2) > 0  # (T, B, S, S)
    patches = drawn.unfold(2, 8, 8).unfold(3, 8, 8).any(-1).any(-1).flatten(2)
    assert patches.sum(-1).unique().tolist() == [targets.shape[2]]
    assert not (patches & ~seen.masks[0]).any()  # nothing of a target is in the context


def test_after_step_moves_the_teacher(build):
    method = build("teacher.momentum=[0.5,0.5]")
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    before = method.teacher.model.norm.weight.clone()
    method.after_step({}, AT)
    torch.testing.assert_close(method.teacher.model.norm.weight, before + 0.5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher=null"], "ijepa needs a teacher"),
        (["mask.strategy=random"], "method ijepa takes no mask"),
        (["encoder=null", "encoder={arch: resnet10t, image_size: 32}"], "resnet10t does not have"),
        (["views.global.size=8"], "1 x 1 patches: ijepa needs 2 x 2 or more"),
        (["method.predictor.heads=5"], "method.predictor.heads 5 does not divide its width 24"),
    ],
)
def test_contradictions_are_named_before_any_data_is_read(build, overrides, message):
    with pytest.raises(UsageError, match=message):
        build(*overrides)
