"""Supervised training: what the targets are, which images count, and that mixing is a function of its key alone."""

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from sslkit import rng
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.errors import UsageError
from sslkit.methods.base import DataFacts
from sslkit.methods.supervised import Supervised, described, mix, soft_cross_entropy
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
CLASSES = 5
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
ALL = torch.ones(6, dtype=torch.bool)


def mixer(mixup=0.8, cutmix=1.0, probability=1.0, smoothing=0.1) -> Mixup:
    return Mixup(mixup, cutmix, prob=probability, label_smoothing=smoothing, num_classes=CLASSES)


def flat_images(count=6) -> torch.Tensor:
    """Image i has the value i everywhere, so that what was mixed can be read off."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 3, 16, 16).clone()


def mixed(draw=0, labels=LABELS, **how):
    return mix(flat_images(len(labels)), labels, CLASSES, 0.1, mixer(**how), rng.generator(draw, "test"))


@pytest.mark.parametrize("how", [{"cutmix": 0.0}, {"mixup": 0.0}, {}])
def test_targets_are_mixed_as_the_pixels_are(how):
    for draw in range(4):
        images, targets, known = mixed(draw, **how)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        assert known.all()
        clean = torch.eye(CLASSES)[LABELS] * 0.9 + 0.1 / CLASSES
        for index in range(6):
            partner = index ^ 1  # neighbours
            foreign = float((images[index].mean() - index) / (partner - index))  # the partner's share of the pixels
            expected = (1 - foreign) * clean[index] + foreign * clean[partner]
            torch.testing.assert_close(targets[index], expected, atol=1e-5, rtol=0)


def test_mixing_is_a_function_of_its_key_and_leaves_numpy_alone():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    images, targets, _ = mixed(draw=1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(6)  # noqa: NPY002
    again, same_targets, _ = mixed(draw=1)
    assert torch.equal(images, again)
    assert torch.equal(targets, same_targets)
    assert not torch.equal(images, mixed(draw=2)[0])


def test_halves_of_a_batch_are_mixed_as_the_whole():
    """So neither accumulation nor a second process changes a mixture."""
    whole = mix(flat_images(8), torch.arange(8) % 5, 5, 0.1, mixer(), rng.generator(0, "test"))
    for half in (slice(0, 4), slice(4, 8)):
        part = mix(flat_images(8)[half], torch.arange(8)[half] % 5, 5, 0.1, mixer(), rng.generator(0, "test"))
        for a, b in zip(whole, part, strict=True):
            torch.testing.assert_close(a[half], b)


def test_the_last_of_an_odd_number_stays_alone():
    images, targets, known = mixed(labels=LABELS[:5], cutmix=0.0)
    assert (images[4] == 4).all()
    assert targets[4].argmax() == 2
    assert float(targets[4].max()) == pytest.approx(0.92)
    assert known.all()
    assert not (images[0] == 0).all()
    alone = mixed(labels=LABELS[:1])
    assert (alone[0] == 0).all()
    assert alone[1].shape == (1, CLASSES)


def test_the_loss_is_timms_where_all_labels_are_known():
    logits = torch.randn(6, CLASSES)
    _, targets, _ = mixed()
    torch.testing.assert_close(soft_cross_entropy(logits, targets, ALL), SoftTargetCrossEntropy()(logits, targets))
    _, smooth, _ = mix(flat_images(), LABELS, CLASSES, 0.1, None, rng.generator(0, "test"))
    torch.testing.assert_close(soft_cross_entropy(logits, smooth, ALL), LabelSmoothingCrossEntropy(0.1)(logits, LABELS))


def test_unlabelled_images_do_not_count():
    labels = torch.tensor([0, -1, 1, 4, -1, 2])
    _, targets, known = mix(flat_images(), labels, CLASSES, 0.1, None, rng.generator(0, "test"))
    assert known.tolist() == [True, False, True, True, False, True]
    logits = torch.randn(6, CLASSES, requires_grad=True)
    loss = soft_cross_entropy(logits, targets, known)
    torch.testing.assert_close(loss, LabelSmoothingCrossEntropy(0.1)(logits[known], labels[known]))
    loss.backward()
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).any()
    # A mixture with an unlabelled image has an unknown target.
    assert mixed(labels=labels)[2].tolist() == [False, False, True, True, False, False]
    none = soft_cross_entropy(logits, targets, torch.zeros_like(known))
    assert none.detach() == 0
    assert none.requires_grad


def test_a_dataset_without_labels_is_refused(tiny_scale):
    with pytest.raises(UsageError, match="needs labels") as error:
        Supervised(resolve([find("supervised"), tiny_scale]), DataFacts(samples=9, classes=0))
    assert "\n" not in str(error.value)


def test_the_step_depends_on_its_number_alone(tiny_scale):
    torch.manual_seed(0)
    method = Supervised(resolve([find("supervised"), tiny_scale], ["views.global.count=2"]), DataFacts(12, CLASSES))
    pixels = torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8)
    batch = ViewBatches(DecodedImages(pixels, np.array([0, 1, 4, -1])), ViewMaker(method.recipe.views, 32, 8, 0))[
        0, np.arange(4)
    ]
    first = method(batch, AT).loss
    torch.manual_seed(9)
    assert torch.equal(method(batch, AT).loss, first)
    assert not torch.equal(method(batch, Moment(4, 10, 10)).loss, first)
    shown = method.preview(batch, AT)
    assert shown.pictures["mixed"].shape == (2, 4, 3, 32, 32)
    assert shown.captions[0].startswith("class ")
    assert shown.captions[3] == "no label"


def test_a_caption_names_the_mixture():
    targets = torch.tensor([[0.02, 0.62, 0.32, 0.02, 0.02]])
    assert described(targets, torch.tensor([True])) == "class 1: 67%, class 2: 33%"
    assert described(torch.tensor([[0.02, 0.92, 0.02, 0.02, 0.02]]), torch.tensor([True])) == "class 1"
