"""Tiny encoders with random weights, for the tests that read and write them."""

import torch

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec

TINY = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
DINOV2 = EncoderSpec("vit_small_patch14_dinov2", image_size=28, width=24, depth=2, heads=3)


def fresh(spec: EncoderSpec = TINY, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    encoder = Encoder(spec).eval()
    with torch.no_grad():
        for tensor in encoder.model.parameters():
            tensor.normal_(0, 0.05)
    return encoder


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


def assert_same(a: Encoder, b: Encoder) -> None:
    for key, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[key]), key
