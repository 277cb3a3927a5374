"""Tokens, keys and attention of a photo."""

import torch

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.segmentation.photo_encoder import PhotoEncoder


def test_tokens_are_the_encoders_and_keys_those_of_its_last_block():
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3))
    look = PhotoEncoder(FrozenEncoder(encoder.eval(), 32, torch.device("cpu"), "fp32"), 24)
    image = torch.randint(0, 256, (3, 24, 40), dtype=torch.uint8)
    seen = look(image)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        pixels = ((image / 255 - mean) / std)[None]
        expected = encoder(pixels, attention=True)
        inner = encoder.model.blocks[0](encoder.embed(pixels))
        block = encoder.model.blocks[1]
        keys = block.attn.qkv(block.norm1(inner))[0, 1:, 24:48]
    assert seen.grid == (3, 5)
    assert seen.attention is not None
    assert torch.allclose(seen.patches, expected.patches[0], atol=1e-5)
    assert torch.allclose(seen.attention, expected.attention[0], atol=1e-6)
    assert torch.allclose(seen.keys, keys, atol=1e-5)
    assert not encoder.model.blocks[1].attn.qkv._forward_hooks


def test_an_encoder_without_cls_still_has_patches():
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec("vit_pwee_patch16_reg1_gap_256", image_size=32, width=24, depth=1, heads=3))
    look = PhotoEncoder(FrozenEncoder(encoder.eval(), 32, torch.device("cpu"), "fp32"), 32)
    seen = look(torch.zeros(3, 40, 40, dtype=torch.uint8))
    assert "no CLS token" in look.no_attention
    assert seen.attention is None
    assert seen.patches.shape == (4, 24)
