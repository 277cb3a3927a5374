"""An encoder's tokens equal timm's to the bit; masks, kept patches and CLS's attention row."""

import re
from dataclasses import replace

import pytest
import timm
import torch

from sslkit.encoder.encoder import Encoder
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


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("patches", [4, 2, (2, 3)])
def test_tokens_equal_timms_to_the_bit(name, patches):
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
    assert torch.equal(before.patches[0], after.patches[0])
    assert not torch.equal(before.patches[1], after.patches[1])
    assert not torch.equal(before.cls[0], encoder(images).cls[0])
    # A mask that hides nothing changes nothing, and still gives the mask token a gradient.
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


@pytest.mark.parametrize("name", SPECS)
def test_last_cls_equal_timms_intermediates_to_the_bit(name):
    encoder = Encoder(SPECS[name]).eval()
    images = torch.randn(2, 3, SPECS[name].image_size, SPECS[name].image_size)
    with torch.no_grad():
        blocks, mean = encoder.last_cls(images, 2)
        last = encoder.model.forward_intermediates(images, 2, True, True, output_fmt="NLC", intermediates_only=True)
    # timm splits prefix tokens off where there are some.
    patches = last[-1][0] if encoder.prefix else last[-1]
    assert torch.equal(mean, patches.mean(1))
    for found, expected in zip(blocks.unbind(1), last, strict=True):
        pooled = expected[1][:, 0] if encoder.has_cls else encoder.model.forward_head(expected, pre_logits=True)
        assert torch.equal(found, pooled)


def test_other_models_give_pooled_features_and_refuse_the_rest():
    encoder = Encoder(EncoderSpec("resnet18", image_size=32)).eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = encoder(images)
    assert tokens.cls.shape == (2, 512)
    assert tokens.patches is None
    for asked in ({"attention": True}, {"mask": torch.zeros(2, 4, dtype=torch.bool)}):
        with pytest.raises(UsageError, match="resnet18 is not a ViT"):
            encoder(images, **asked)


def test_cls_attention_of_a_model_without_cls_is_refused():
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
        (EncoderSpec("resnet18", depth=3), "resnet18 is not a plain ViT and takes no encoder.depth"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_refused(spec, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Encoder(spec)


def test_without_a_cls_token_the_feature_is_the_mean_of_the_patches_and_plain_timm_loads_it():
    spec = EncoderSpec("vit_tiny_patch16_224", 32, 8, 24, 1, 3, cls_token=False)
    encoder, images = Encoder(spec).eval(), torch.randn(2, 3, 32, 32)
    tokens, info = encoder(images), encoder.info("student")
    assert tokens.patches.shape == (2, 16, 24)
    torch.testing.assert_close(tokens.cls, tokens.patches.mean(1))
    model = timm.create_model(info["arch"], **info["timm_kwargs"]).eval()
    model.load_state_dict(encoder.model.state_dict(), strict=True)
    torch.testing.assert_close(model(images), tokens.cls)
    assert Encoder.from_info(info).has_cls is False
    assert "cls_token" not in Encoder(EncoderSpec("vit_tiny_patch16_224", 32, 8, 24, 1, 3)).info("student")["spec"]
    with pytest.raises(UsageError, match=r"takes no encoder.cls_token: set encoder.cls_token to null"):
        Encoder(EncoderSpec("resnet10t", cls_token=False))


@pytest.mark.parametrize(("name", "alone"), [("cls", True), ("registers", True), ("no cls", False)])
def test_cls_alone_is_that_of_the_whole_block_with_its_gradients(name, alone):
    encoder = Encoder(replace(SPECS[name], drop_path=0.5))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no scale of a layer is next to 0, and no bias 0
    images = torch.randn(4, 3, SPECS[name].image_size, SPECS[name].image_size)
    drop, found = encoder.drop_scales(torch.rand(2 * encoder.depth, 4)), []
    for patches in (True, False):
        tokens = encoder(images, drop=drop, attention=encoder.has_cls, patches=patches)
        assert (tokens.patches is None) == (alone and not patches)
        encoder.zero_grad()
        tokens.cls.square().sum().backward()
        found.append((tokens.cls, tokens.attention, [p.grad for p in encoder.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_a_compiled_block_stays_whole(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    encoder = Encoder(SPECS["cls"])
    encoder.model.blocks[-1].compile()
    assert encoder(torch.randn(1, 3, 64, 64), patches=False).patches is not None
