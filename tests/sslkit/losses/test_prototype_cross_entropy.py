"""DINO's and iBOT's losses against the authors' code and against loops written from the equations."""

import numpy as np
import torch
from conftest import FIXTURES

from sslkit.losses.centering import moved_center, sharpen
from sslkit.losses.prototype_cross_entropy import hidden_cross_entropy
from sslkit.objectives import dino


def oracle(name: str) -> dict[str, torch.Tensor]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def test_dino_meets_the_authors_loss_and_centre():
    o = oracle("dino_loss")
    targets = sharpen(o["teacher"], o["center"], float(o["teacher_temperature"]))
    value = dino.loss(o["student"], targets, float(o["student_temperature"]))
    torch.testing.assert_close(value, o["loss"], rtol=1e-5, atol=0)
    center = moved_center(o["center"], o["teacher"].mean((0, 1)), float(o["center_momentum"]))
    torch.testing.assert_close(center, o["new_center"], rtol=1e-5, atol=1e-7)


def test_ibot_meets_the_authors_losses_and_centres():
    o = oracle("ibot_loss")
    student_temperature = float(o["student_temperature"])
    cls_targets = sharpen(o["teacher_cls"], o["center_cls"], float(o["teacher_temperature_cls"]))
    loss_cls = dino.loss(o["student_cls"], cls_targets, student_temperature)
    torch.testing.assert_close(loss_cls, o["loss_cls"], rtol=1e-5, atol=0)

    mask = o["mask"].flatten(0, 1)
    index = mask.flatten().nonzero()[:, 0]
    per_crop = mask.sum(1).clamp_min(1)
    weights = (1 / per_crop.float())[:, None].expand_as(mask).flatten()[index]
    student = o["student_patches"].flatten(0, 2)[index]
    targets = sharpen(
        o["teacher_patches"].flatten(0, 2)[index], o["center_patch"], float(o["teacher_temperature_patch"])
    )
    loss_patch = hidden_cross_entropy(student, targets, weights, len(mask), student_temperature)
    torch.testing.assert_close(loss_patch, o["loss_patch"], rtol=1e-5, atol=0)
    torch.testing.assert_close(loss_cls + loss_patch, o["loss"], rtol=1e-5, atol=0)
    center = moved_center(o["center_patch"], o["teacher_patches"].mean((0, 1, 2)), float(o["center_momentum"]))
    torch.testing.assert_close(center, o["new_center_patch"], rtol=1e-5, atol=1e-7)


def test_dino_equals_a_loop_over_pairs():
    torch.manual_seed(0)
    student, targets = torch.randn(5, 3, 7), torch.randn(2, 3, 7).softmax(-1)
    pairs = [
        -(targets[t] * (student[s] / 0.1).log_softmax(-1)).sum(-1).mean() for t in range(2) for s in range(5) if s != t
    ]
    torch.testing.assert_close(dino.loss(student, targets, 0.1), torch.stack(pairs).mean())


def test_dino_is_least_when_the_student_agrees():
    targets = torch.eye(4)[None].repeat(2, 1, 1)
    agreeing = targets * 10
    assert dino.loss(agreeing, targets, 1.0) < dino.loss(agreeing.flip(1), targets, 1.0)


def test_no_hidden_token_gives_zero_with_a_gradient():
    student = torch.randn(0, 7, requires_grad=True)
    value = hidden_cross_entropy(student, torch.zeros(0, 7), torch.zeros(0), crops=4, temperature=0.1)
    value.backward()
    assert value == 0
    assert student.grad is not None
