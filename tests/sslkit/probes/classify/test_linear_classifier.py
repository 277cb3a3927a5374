"""An encoder with its linear head as one classifier: what it takes, and what it refuses."""

import pytest
import torch

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.linear_classifier import LinearClassifier, parse_features, patch_size

SPEC = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
CPU = torch.device("cpu")
COUNT = 16  # patches of 8 pixels in an image of 32


def classifier(features: str, width: int, spec: EncoderSpec = SPEC) -> LinearClassifier:
    torch.manual_seed(0)
    encoder, weight = Encoder(spec).eval(), torch.randn(4, width)
    frozen = FrozenEncoder(encoder, spec.image_size, CPU, "fp32")
    return LinearClassifier(frozen, weight, torch.randn(4), features)


@pytest.mark.parametrize(("features", "width"), [("cls", 24), ("cls + patch_mean", 48), ("CLS of last 2", 48)])
def test_logits_are_the_heads_on_the_features_that_it_was_trained_on(features, width):
    probe, images = classifier(features, width), torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        blocks, mean = probe.frozen.encoder.last_cls(images, 2)
    assert mean is not None
    rows = {
        "cls": blocks[:, 1],
        "cls + patch_mean": torch.cat([blocks[:, 1], mean], 1),
        "CLS of last 2": blocks.flatten(1),
    }
    wanted = rows[features] @ probe.weight.T + probe.bias
    torch.testing.assert_close(probe.logits(images, None), wanted)
    if features != "CLS of last 2":
        everything = torch.arange(COUNT).repeat(3, 1)
        torch.testing.assert_close(probe.logits(images, everything), wanted)
        # What lies in a token that is dropped is never seen.
        keep = everything[:, 1:]
        changed = images.clone()
        changed[:, :, :8, :8] = 9.0
        torch.testing.assert_close(probe.logits(changed, keep), probe.logits(images, keep))
        assert not torch.allclose(probe.logits(changed, None), wanted)


def test_salience_is_the_mean_of_the_heads_of_the_last_block():
    probe, images = classifier("cls", 24), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        attention = probe.frozen.encoder(images, attention=True).attention
    torch.testing.assert_close(probe.salience(images), sum(attention[:, head] for head in range(3)) / 3)


def test_models_without_patches_or_cls():
    resnet = classifier("cls", 512, EncoderSpec("resnet18", image_size=32))
    assert patch_size(resnet.frozen.encoder) == 4
    assert resnet.salience(torch.zeros(1, 3, 32, 32)) is None
    assert patch_size(Encoder(EncoderSpec("resnet18", image_size=224))) == 16
    resnet.check_drop("pixels")
    with pytest.raises(UsageError, match="no tokens to drop"):
        resnet.check_drop("tokens")
    pooled = Encoder(
        EncoderSpec("vit_base_patch16_siglip_224", image_size=32, patch_size=8, width=24, depth=1, heads=3)
    )
    assert "no CLS token" in pooled.why_no_attention()
    with pytest.raises(UsageError, match="several blocks"):
        classifier("CLS of last 2", 48).check_drop("tokens")
    with pytest.raises(UsageError, match="31 pixels"):
        patch_size(Encoder(EncoderSpec("resnet18", image_size=31)))


def test_heads_of_other_features_are_refused():
    with pytest.raises(SslkitError, match=r"takes 48 numbers, but cls of .* has 24"):
        classifier("cls", 48)
    with pytest.raises(SslkitError, match="'dreams'"):
        parse_features("dreams")
