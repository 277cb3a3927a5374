"""Defaults and bounds of fine-tuning."""

import pytest

from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError
from sslkit.probes.finetuning.finetune import recipe_for
from sslkit.probes.finetuning.settings import finetune_settings

SPEC = EncoderSpec("vit_tiny_patch16_224", 32, 8, width=24, depth=3, heads=3)


def test_defaults_suit_the_images_and_the_start():
    small, large = finetune_settings(32, False, False), finetune_settings(224, False, False)
    assert (small.lr, small.batch_size, small.mixup) == ((4e-3,), 64, 0)
    assert (large.lr, large.batch_size, large.mixup) == ((1e-3,), 256, 0.8)
    assert finetune_settings(32, True, False).layer_decay == 1
    assert finetune_settings(32, True, False, layer_decay=0.7).layer_decay == 0.7
    assert finetune_settings(224, False, True).smoothing == finetune_settings(224, False, True).cutmix == 0
    # Few labels need many passes: never fewer than 500 steps unless epochs are named.
    assert recipe_for(small, SPEC, 1e-3, 100, "fp32", 0).train.epochs == 500
    assert recipe_for(small, SPEC, 1e-3, 10_000, "fp32", 0).train.epochs == 20
    assert recipe_for(finetune_settings(32, False, False, epochs=3), SPEC, 1e-3, 100, "fp32", 0).train.epochs == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": (0.1, 0.0)}, "--lr 0: must be above 0"),
        ({"epochs": 0}, "--epochs 0: must be above 0"),
        ({"epochs": float("nan")}, "--epochs nan: must be above 0"),
        ({"layer_decay": 1.5}, "--layer-decay 1.5: must be above 0 and at most 1"),
        ({"ema": -0.1}, "--ema -0.1: must be 0 or more and at most 1"),
        ({"batch_size": 0}, "--batch-size 0: must be 1 or more"),
    ],
)
def test_a_value_out_of_range_is_named(given, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        finetune_settings(32, False, False, **given)
