"""data2vec: targets and loss by oracles, hidden patches only, and masks that hide something."""

import math

import numpy as np
import pytest
import torch
from tiny_batches import batch_of, part

from sslkit.data.augment import photometric
from sslkit.errors import UsageError
from sslkit.methods.data2vec import Data2Vec, averaged, loss
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)


@pytest.fixture
def build(tiny_scale):
    def make(*overrides: str) -> Data2Vec:
        torch.manual_seed(0)
        return Data2Vec(resolve([find("data2vec"), tiny_scale], ["encoder.drop_path=0", *overrides]))

    return make


def test_targets_are_the_mean_of_normalised_outputs():
    outputs = [10**scale * torch.randn(2, 3, 5) for scale in range(3)]
    expected = []
    for output in outputs:
        rows = output.double().reshape(-1, 5)
        expected.append([[(x - row.mean()) / math.sqrt(row.var(correction=0) + 1e-5) for x in row] for row in rows])
    found = averaged(outputs).reshape(-1, 5).numpy()
    np.testing.assert_allclose(found, np.mean(np.array(expected), 0), rtol=1e-4, atol=1e-5)


def test_the_loss_is_a_loop_over_hidden_tokens():
    """Equation 4: squared below beta, a line above; crops count alike however many tokens they hide."""
    prediction, target = 3 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    crops = [[0, 1, 2], [3, 4]]
    weights = torch.tensor([1 / 3] * 3 + [1 / 2] * 2)
    expected = 0.0
    for tokens in crops:
        for token in tokens:
            errors = [abs(float(a - b)) for a, b in zip(prediction[token], target[token], strict=True)]
            values = [e * e / (2 * 1.5) if e < 1.5 else e - 0.5 * 1.5 for e in errors]
            expected += sum(values) / 4 / len(tokens) / 3
    assert loss(prediction, target, weights, crops=3, beta=1.5).item() == pytest.approx(expected, rel=1e-5)


def test_the_teacher_gives_its_last_blocks_of_the_whole_crop(build):
    method = build("method.last_blocks=2")
    images = torch.randn(3, 3, 32, 32)
    _, taken = method.teacher.model.forward_intermediates(images, indices=2, norm=False, output_fmt="NLC")
    torch.testing.assert_close(method._teach(images)[0], averaged(list(taken)))
    assert not torch.equal(method._teach(images)[0], build("method.last_blocks=1")._teach(images)[0])


def test_only_hidden_patches_count(build):
    method = build()
    batch = batch_of(method)
    views = photometric(batch.crops[0], batch.photometric[0])
    with torch.no_grad():
        wanted, _ = method._teach(views[0])
        masks = method._draw_masks(batch, views, None, AT)
        tokens = method.predict(method.student(views[0], mask=masks.mask).patches)
    crops = []
    for crop in range(4):
        errors = [
            torch.nn.functional.smooth_l1_loss(tokens[crop, i], wanted[crop, i], beta=2.0)
            for i in masks.mask[crop].nonzero()[:, 0]
        ]
        crops.append(torch.stack(errors).mean())
    torch.testing.assert_close(method(batch, AT).loss.detach(), torch.stack(crops).mean(), rtol=1e-4, atol=1e-6)
    assert masks.counts.max() <= int(0.6 * 16)


def test_parts_of_a_batch_have_the_mean_loss_of_the_whole(build):
    method = build("mask.ratio=[0.2,0.6]", "mask.ratio_per=crop")
    batch = batch_of(method)
    halves = [method(part(batch, rows), AT).loss for rows in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, method(batch, AT).loss)


def test_masks_may_follow_the_teachers_attention(build):
    method = build("encoder.cls_token=null", "mask={strategy: attention, order: high, ratio: 0.25}")
    batch = batch_of(method)
    masks = method.preview(batch, AT).masks[0]
    views = photometric(batch.crops[0], batch.photometric[0])
    row = method.teacher(views[0], attention=True).attention.mean(1)
    assert torch.equal(masks, torch.zeros_like(masks).scatter(1, row.topk(4).indices, True))


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
        (["teacher=null"], "data2vec needs a teacher"),
        (["mask=null"], "data2vec needs a mask"),
        (["mask.probability=0"], "mask.probability is 0"),
        (["mask.ratio=0.05"], "hides none of 16 patches"),
        (["mask.ratio=1.0"], "hides all of 16 patches"),
        (["method.last_blocks=3"], "method.last_blocks is 3, but the encoder has 2"),
        (["mask={strategy: attention}"], "has no CLS token; --set encoder.cls_token=null"),
        (["encoder=null", "encoder={arch: resnet10t, image_size: 32}"], "resnet10t does not have"),
    ],
)
def test_contradictions_are_named_before_any_data_is_read(build, overrides, message):
    with pytest.raises(UsageError, match=message):
        build(*overrides)
