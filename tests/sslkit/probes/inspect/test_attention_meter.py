"""Attention distance and entropy of heads, against loops over queries and keys."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.inspect import attention_meter
from sslkit.probes.inspect.attention_meter import (
    AttentionMeter,
    attention_distance,
    attention_entropy,
    patch_distances,
)

SIZES = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 3}
ARCHS = ("vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224")


def encoder(arch: str = ARCHS[0]) -> Encoder:
    torch.manual_seed(0)
    made = Encoder(EncoderSpec(arch, **SIZES)).eval()
    for block in made.model.blocks:  # sharp attention: logits at initialisation are all near 0
        nn.init.normal_(block.attn.qkv.weight, std=0.5)
    return made


def test_distances_are_between_patch_centres_in_pixels():
    found = patch_distances((2, 3), 8)
    for i in range(6):
        for j in range(6):
            assert found[i, j] == pytest.approx(8 * math.hypot(i // 3 - j // 3, i % 3 - j % 3))


def test_uniform_attention_and_attention_to_itself():
    distances = patch_distances((4, 5), 16)
    alike, itself = torch.full((20, 20), 1 / 20), torch.eye(20)
    assert attention_distance(alike, distances) == pytest.approx(distances.mean().item())
    assert attention_entropy(alike) == pytest.approx(math.log(20))
    assert attention_distance(itself, distances) == 0
    assert attention_entropy(itself) == 0


def naive_heads(model: Encoder, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Every block by hand, image by image, head by head, query by query."""
    found = {"distance": np.zeros((2, 3)), "entropy": np.zeros((2, 3))}
    side, prefix = 4, model.prefix
    with torch.no_grad():
        x = model.embed(images)
        for layer, block in enumerate(model.model.blocks):
            tokens, attn = block.norm1(x), block.attn
            q, k, _ = attn.qkv(tokens).chunk(3, -1)
            for image in range(len(images)):
                for head in range(3):
                    some = slice(8 * head, 8 * head + 8)
                    for query in range(16):
                        logits = [
                            float(q[image, prefix + query, some] @ k[image, prefix + key, some]) / math.sqrt(8)
                            for key in range(16)
                        ]
                        total = sum(math.exp(logit) for logit in logits)
                        for key, logit in enumerate(logits):
                            p = math.exp(logit) / total
                            away = 8 * math.hypot(query // side - key // side, query % side - key % side)
                            found["distance"][layer, head] += p * away / (16 * len(images))
                            found["entropy"][layer, head] -= p * math.log(p) / (16 * len(images))
            x = block(x)
    return found


@pytest.mark.parametrize("arch", ARCHS)  # CLS alone, CLS with registers, neither
def test_heads_agree_with_loops_whatever_the_chunks(arch, monkeypatch):
    model, images = encoder(arch), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert model.model.blocks[0].attn.qkv.out_features == 72
    assert model.grid(32, 32) == (4, 4)
    wanted = naive_heads(model, images)
    for floats in (1, 1 << 25):
        monkeypatch.setattr(attention_meter, "ATTENTION_FLOATS", floats)
        with AttentionMeter(model) as meter, torch.no_grad():
            model(images[:2])
            model(images[2:])
        found = meter.per_head()
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4)
            assert values.std() > 0.01
    # The hooks are removed.
    assert not any(block.attn._forward_pre_hooks for block in model.model.blocks)


@pytest.mark.parametrize(
    ("arch", "why"),
    [("resnet18", "not a ViT"), ("vit_dwee_patch16_reg1_gap_256", "DiffAttention"), (ARCHS[0], "")],
)
def test_models_without_readable_heads_give_a_reason(arch, why):
    found = Encoder(EncoderSpec(arch, image_size=32)).why_no_attention(cls=False)
    assert why in found
    assert bool(found) == bool(why)
