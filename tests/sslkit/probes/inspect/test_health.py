"""Features and views that health is measured on, against their definitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.shards import open_split
from sslkit.diagnostics import alignment, effective_rank, uniformity
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.features.crops import crops
from sslkit.probes.inspect.health import (
    STANDARD_VIEWS,
    HealthImages,
    drawn_rows,
    pair_views,
    representation,
    view_pairs,
)
from sslkit.recipe.sections import ViewsSection
from stages.contract.layout import Run

SPEC = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)


@pytest.fixture
def frozen() -> FrozenEncoder:
    torch.manual_seed(0)
    return FrozenEncoder(Encoder(SPEC).eval(), 32, torch.device("cpu"), "fp32")


def images_of(shapes_run: Path, section: ViewsSection = STANDARD_VIEWS, seed: int = 0) -> HealthImages:
    split = open_split(Run(shapes_run).data, "val")
    return HealthImages(split, np.arange(0, 12, 2), pair_views(section, Encoder(SPEC), seed))


def pairs(images: HealthImages, frozen: FrozenEncoder) -> torch.Tensor:
    (together,) = view_pairs(images, frozen)
    return together


def test_measures_are_of_evaluation_crops_and_pairs_of_views(shapes_run, frozen):
    images = images_of(shapes_run)
    found = representation(frozen, images)
    with torch.inference_mode():
        whole = frozen.encoder(torch.cat([pixels for _, pixels in crops(images.split, images.rows, frozen)])).cls
        first, second = (frozen.encoder(view).cls for view in pairs(images, frozen))
    assert whole.shape == first.shape == second.shape == (6, 24)
    assert found["alignment"] == pytest.approx(alignment(first, second), rel=1e-4)
    assert found["alignment"] > 0
    assert found["uniformity"] == pytest.approx(uniformity(whole), rel=1e-4)
    assert found["rankme"] == pytest.approx(effective_rank(whole), rel=1e-4)
    unit = torch.nn.functional.normalize(whole)
    assert found["feature_std"] == pytest.approx((unit.std(0, correction=0).mean() * 24**0.5).item(), rel=1e-4)


def test_views_depend_only_on_image_and_seed(shapes_run, frozen):
    whole = images_of(shapes_run)
    together = pairs(whole, frozen)
    assert together.shape == (2, 6, 3, 32, 32)
    alone = replace(whole, rows=whole.rows[3:4])
    one = pairs(alone, frozen)
    assert torch.equal(one[:, 0], together[:, 3])
    assert not torch.allclose(one[0], one[1])
    other = replace(alone, views=images_of(shapes_run, seed=1).views)
    assert not torch.allclose(pairs(other, frozen), one)


def test_recipes_of_one_view_give_pairs_and_no_augmentation_gives_alignment_0(shapes_run, frozen):
    still = dict.fromkeys(("flip", "jitter", "gray", "blur", "solarize"), 0.0)
    section = ViewsSection.model_validate({"global": {"count": 1, "scale": (1.0, 1.0)}, "augment": still})
    assert representation(frozen, images_of(shapes_run, section))["alignment"] == pytest.approx(0, abs=1e-9)
    moving = section.model_copy(update={"augment": STANDARD_VIEWS.augment})
    pair = pairs(images_of(shapes_run, moving), frozen)
    assert pair.shape == (2, 6, 3, 32, 32)
    assert not torch.allclose(pair[0], pair[1])


def test_views_are_normalised_as_the_encoder_was_trained(shapes_run, frozen):
    images = images_of(shapes_run)
    usual = pairs(images, frozen)
    other = pairs(images, replace(frozen, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1)))
    pixels = usual[0, 0] * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
    for channel, (mean, std) in enumerate([(0.5, 0.5), (0.4, 0.2), (0.3, 0.1)]):
        torch.testing.assert_close(other[0, 0, channel], (pixels[channel] - mean) / std)


def test_larger_counts_contain_smaller_ones():
    some, more = drawn_rows(50, 10, 0), drawn_rows(50, 30, 0)
    assert set(some) < set(more)
    assert len(more) == 30
    assert list(more) == sorted(more)
    assert list(drawn_rows(5, 30, 0)) == [0, 1, 2, 3, 4]
    assert list(some) != list(drawn_rows(50, 10, 1))
