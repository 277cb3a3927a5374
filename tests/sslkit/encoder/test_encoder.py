"""The token view of timm's models: to the bit what timm computes, plus masks, kept tokens and one attention row."""

import pytest
import torch

from sslkit.encoder import attention
from sslkit.encoder.encoder import Encoder, EncoderSpec, unfuse_attention
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


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("patches", [4, 2, (2, 3)])
def test_tokens_are_to_the_bit_what_timm_computes(name, patches):
    encoder = Encoder(SPECS[name]).eval()
    rows, columns = patches if isinstance(patches, tuple) else (patches, patches)
    images = torch.randn(2, 3, rows * encoder.patch_size, columns * encoder.patch_size)
    with torch.no_grad():
        tokens, expected = encoder(images), encoder.model.forward_features(images)
        assert torch.equal(tokens.cls, encoder.model.forward_head(expected, pre_logits=True))
        assert torch.equal(tokens.patches, expected[:, encoder.prefix :])
    assert encoder.grid(*images.shape[-2:]) == (rows, columns)


@pytest.mark.parametrize("name", ["cls", "registers"])
def test_the_attention_row_is_that_of_the_full_matrix(name):
    encoder = Encoder(SPECS[name]).eval()
    images = torch.randn(2, 3, SPECS[name].image_size, SPECS[name].image_size)
    seen = {}
    attn = encoder.model.blocks[-1].attn

    def full(module, inputs):
        x = inputs[0]
        qkv = attn.qkv(x).reshape(*x.shape[:2], 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        seen["row"] = ((qkv[0] * attn.scale) @ qkv[1].transpose(-2, -1)).softmax(-1)[:, :, 0, encoder.prefix :]

    attn.register_forward_pre_hook(full)
    row = encoder(images, attention=True).attention
    torch.testing.assert_close(row, seen["row"])
    assert row.sum(-1).max() < 1  # the rest goes to CLS and registers


def test_attention_lets_gradients_through():
    encoder = Encoder(SPECS["cls"])
    encoder(torch.randn(1, 3, 64, 64), attention=True).attention.square().sum().backward()
    assert encoder.model.blocks[-1].attn.qkv.weight.grad.abs().sum() > 0
    assert encoder.model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_a_masked_patch_cannot_be_seen():
    encoder = Encoder(SPECS["cls"]).eval()
    images = torch.randn(2, 3, 64, 64)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 5] = True  # row 1, column 1
    changed = images.clone()
    changed[:, :, 16:32, 16:32] = 7
    before, after = encoder(images, mask=mask), encoder(changed, mask=mask)
    assert torch.equal(before.patches[0], after.patches[0]) and not torch.equal(before.patches[1], after.patches[1])
    assert not torch.equal(before.cls[0], encoder(images).cls[0])
    # A mask that hides nothing changes nothing, and still has a gradient for the mask token.
    nothing = encoder(images, mask=torch.zeros_like(mask))
    assert torch.equal(nothing.cls, encoder(images).cls)
    nothing.cls.sum().backward()
    assert encoder.mask_token.grad.abs().sum() == 0


def test_masked_tokens_keep_their_positions():
    encoder = Encoder(SPECS["cls"]).eval()
    patches = encoder(torch.randn(1, 3, 64, 64), mask=torch.ones(1, 16, dtype=torch.bool)).patches[0]
    assert len({tuple(row.tolist()) for row in patches}) == 16


def test_kept_tokens_are_those_patches_with_their_positions():
    encoder = Encoder(SPECS["cls"]).eval()
    images = torch.randn(2, 3, 64, 64)
    every = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(encoder(images, keep=every).cls, encoder(images).cls)
    shuffled = every[:, torch.randperm(16)]
    torch.testing.assert_close(encoder(images, keep=shuffled).cls, encoder(images).cls, rtol=1e-4, atol=1e-5)
    some = encoder(images, keep=every[:, [3, 7]])
    assert some.patches.shape == (2, 2, 48)
    changed = images.clone()
    changed[:, :, :16, :16] = 9  # patch 0 is not kept
    assert torch.equal(encoder(changed, keep=every[:, [3, 7]]).cls, some.cls)


def test_drop_scales_drop_whole_branches_of_whole_samples():
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224", image_size=64, patch_size=16, drop_path=0.5, **TINY))
    images = torch.randn(4, 3, 64, 64)
    assert encoder.drop_rates == [0, 0, 0.25, 0.25, 0.5, 0.5]
    uniforms = torch.full((6, 4), 0.99)
    kept = encoder.drop_scales(uniforms)
    assert torch.allclose(kept[:, 0], torch.tensor([1, 1, 4 / 3, 4 / 3, 2, 2]))
    uniforms[:, 1] = 0.0
    dropped = encoder.drop_scales(uniforms)
    assert dropped[:, 1].tolist() == [1, 1, 0, 0, 0, 0]
    whole, plain = encoder(images, drop=dropped), encoder(images)
    assert not torch.allclose(whole.cls[1], plain.cls[1])
    assert torch.equal(encoder(images).cls, plain.cls)  # the next pass forgets the scales
    # Mean over many draws is the branch itself.
    assert encoder.drop_scales(torch.rand(6, 20000)).mean(1).sub(1).abs().max() < 0.03


def test_last_cls_are_normalised_block_outputs():
    encoder = Encoder(SPECS["cls"]).eval()
    images = torch.randn(2, 3, 64, 64)
    blocks, mean = encoder.last_cls(images, 2)
    tokens = encoder(images)
    assert blocks.shape == (2, 2, 48)
    torch.testing.assert_close(blocks[:, -1], tokens.cls)
    torch.testing.assert_close(mean, tokens.patches.mean(1))


def test_a_model_that_is_no_vit_serves_pooled_features_and_refuses_the_rest():
    encoder = Encoder(EncoderSpec("resnet18", image_size=32)).eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = encoder(images)
    assert tokens.cls.shape == (2, 512) and tokens.patches is None
    for asked in ({"attention": True}, {"mask": torch.zeros(2, 4, dtype=torch.bool)}):
        with pytest.raises(UsageError, match="resnet18 is no ViT"):
            encoder(images, **asked)


def test_attention_of_a_model_without_cls_is_refused_with_the_reason():
    with pytest.raises(UsageError, match="no CLS token"):
        Encoder(SPECS["no cls"])(torch.randn(1, 3, 64, 64), attention=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=5),
            "patch size 5 does not divide image size 32: try 30",
        ),
        (EncoderSpec("vit_tiny_patch16_224", image_size=40), "patch size 16 does not divide image size 40"),
        (EncoderSpec("vit_tinny_patch16_224"), "did you mean 'vit_tiny_patch16_224'"),
        (EncoderSpec("resnet18", depth=3), "resnet18 is no plain ViT"),
    ],
)
def test_what_cannot_be_built_is_said(spec, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Encoder(spec)


def test_unfused_attention_computes_the_same():
    encoder = Encoder(SPECS["cls"]).eval()
    images = torch.randn(2, 3, 64, 64)
    fused = encoder(images).cls
    unfuse_attention(encoder)
    torch.testing.assert_close(encoder(images).cls, fused)


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
    maps = encoder.attention_maps(images, [encoder.depth])
    assert torch.equal(maps[:, 0], encoder(images, attention=True).attention)


@torch.no_grad()
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("query", [None, 0, 5])
def test_maps_are_rows_of_the_full_matrices(name, query):
    encoder = Encoder(SPECS[name]).eval()
    images = torch.randn(2, 3, 2 * encoder.patch_size, 3 * encoder.patch_size)
    if query is None and not encoder.has_cls:
        for read in (lambda: encoder.attention_maps(images, [1]), lambda: encoder.attention_rollout(images)):
            with pytest.raises(UsageError, match="no CLS token"):
                read()
        return
    token = 0 if query is None else encoder.prefix + query
    layers = [encoder.depth, 1]  # in the order that was asked for
    expected = full_matrices(encoder, images)[[layer - 1 for layer in layers], :, :, token, encoder.prefix :]
    maps = encoder.attention_maps(images, layers, query)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, expected.transpose(0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder.attention_maps(images, layers, query).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("chunk", [2, 1024])
def test_rollout_is_the_product_of_whole_matrices(name, chunk, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK", chunk)
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
            rolled = encoder.attention_rollout(images, query)[sample]
            torch.testing.assert_close(rolled, product[token, encoder.prefix :], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "query", "message"),
    [([0], None, "layer 0: vit_tiny_patch16_224 has layers 1 to 3"), ([4], None, "layer 4"), ([1], 16, "patch 16")],
)
def test_layers_and_patches_that_are_not_there(layers, query, message):
    with pytest.raises(UsageError, match=message):
        Encoder(SPECS["cls"]).attention_maps(torch.randn(1, 3, 64, 64), layers, query)


def test_maps_of_a_model_that_is_no_vit_are_refused():
    with pytest.raises(UsageError, match="resnet18 is no ViT"):
        Encoder(EncoderSpec("resnet18", image_size=32)).attention_maps(torch.randn(1, 3, 32, 32), [1])


def test_blocks_whose_attention_cannot_be_read_are_named():
    encoder = Encoder(EncoderSpec("vit_pwee_patch16_reg1_gap_256", image_size=32, width=48, depth=2, heads=3))
    with pytest.raises(UsageError, match="attention of kind ParallelScalingBlock"):
        encoder.attention_maps(torch.randn(1, 3, 32, 32), [1], 0)
