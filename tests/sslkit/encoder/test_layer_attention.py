"""Attention maps and rollout, against the full matrices of timm's own modules."""

import pytest
import torch

from sslkit.encoder import layer_attention as library
from sslkit.encoder.attention import unfuse_attention
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.layer_attention import attention_maps, attention_rollout
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError

TINY = {"width": 48, "depth": 3, "heads": 3}
SPECS = {
    "cls": EncoderSpec("vit_tiny_patch16_224", image_size=64, patch_size=16, **TINY),
    "registers": EncoderSpec("vit_small_patch14_reg4_dinov2", image_size=56, depth=2),
    "no cls": EncoderSpec("vit_base_patch16_siglip_224", image_size=64, **TINY),
    "fc_norm": EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=4, **TINY),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def full_matrices(encoder, images):
    """Softmax(q k^T) of every block, (L, B, H, T, T), by hooks on timm's own unfused modules."""
    seen = []

    def hook(attn, inputs):
        x = inputs[0]
        qkv = attn.qkv(x).reshape(*x.shape[:2], 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        seen.append(((attn.q_norm(qkv[0]) * attn.scale) @ attn.k_norm(qkv[1]).transpose(-2, -1)).softmax(-1))

    unfuse_attention(encoder)
    handles = [block.attn.register_forward_pre_hook(hook) for block in encoder.model.blocks]
    encoder.model.forward_features(images)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


@pytest.mark.parametrize("name", ["cls", "registers"])
def test_the_map_of_the_last_layer_from_cls_is_the_row_that_training_reads(name):
    encoder = Encoder(SPECS[name]).eval()
    images = torch.randn(2, 3, SPECS[name].image_size, SPECS[name].image_size)
    maps = attention_maps(encoder, images, [encoder.depth])
    assert torch.equal(maps[:, 0], encoder(images, attention=True).attention)


@torch.no_grad()
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("query", [None, 0, 5])
def test_maps_are_rows_of_the_full_matrices(name, query):
    encoder = Encoder(SPECS[name]).eval()
    images = torch.randn(2, 3, 2 * encoder.patch_size, 3 * encoder.patch_size)
    if query is None and not encoder.has_cls:
        for read in (lambda: attention_maps(encoder, images, [1]), lambda: attention_rollout(encoder, images)):
            with pytest.raises(UsageError, match="no CLS token"):
                read()
        return
    token = 0 if query is None else encoder.prefix + query
    layers = [encoder.depth, 1]  # maps come in this order
    expected = full_matrices(encoder, images)[[layer - 1 for layer in layers], :, :, token, encoder.prefix :]
    maps = attention_maps(encoder, images, layers, query)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, expected.transpose(0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert attention_maps(encoder, images, layers, query).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("chunk", [2, 1024])
def test_rollout_is_the_product_of_whole_matrices(name, chunk, monkeypatch):
    monkeypatch.setattr(library, "CHUNK", chunk)
    encoder = Encoder(SPECS[name]).eval()
    images = torch.randn(2, 3, 2 * encoder.patch_size, 3 * encoder.patch_size)
    matrices = full_matrices(encoder, images)
    for query in [None, 4] if encoder.has_cls else [4]:
        token = 0 if query is None else encoder.prefix + query
        for sample in range(2):
            product = torch.eye(matrices.shape[-1])
            for layer in matrices[:, sample]:
                mean = sum(layer) / len(layer)
                product = (0.5 * torch.eye(len(product)) + 0.5 * mean) @ product
            rolled = attention_rollout(encoder, images, query)[sample]
            torch.testing.assert_close(rolled, product[token, encoder.prefix :], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "query", "message"),
    [([0], None, "layer 0: vit_tiny_patch16_224 has layers 1 to 3"), ([4], None, "layer 4"), ([1], 16, "patch 16")],
)
def test_unknown_layers_and_patches_are_refused(layers, query, message):
    with pytest.raises(UsageError, match=message):
        attention_maps(Encoder(SPECS["cls"]), torch.randn(1, 3, 64, 64), layers, query)


def test_maps_of_a_model_other_than_a_vit_are_refused():
    with pytest.raises(UsageError, match="resnet18 is not a ViT"):
        attention_maps(Encoder(EncoderSpec("resnet18", image_size=32)), torch.randn(1, 3, 32, 32), [1])


def test_attention_that_cannot_be_read_is_named():
    encoder = Encoder(EncoderSpec("vit_pwee_patch16_reg1_gap_256", image_size=32, width=48, depth=2, heads=3))
    with pytest.raises(UsageError, match="attention of kind ParallelScalingBlock"):
        attention_maps(encoder, torch.randn(1, 3, 32, 32), [1], 0)
