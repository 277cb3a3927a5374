"""Layouts of published checkpoints, each made here from the weights of a tiny encoder."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoders import DINOV2, assert_same, fresh, under

from sslkit import registry
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.weights import layouts
from sslkit.weights.read import LAYOUTS, load_checkpoint

REGISTERS = EncoderSpec("vit_small_patch14_reg4_dinov2", image_size=28, width=24, depth=2, heads=3)


def others(state: dict) -> dict:
    return {key: torch.full_like(value, 7.0) for key, value in state.items()}


HEAD = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}
NAMESPACE = argparse.Namespace(arch="vit_tiny", lr=np.float64(0.1), out=Path("x"))
# By what is in the file: its layout, and the file from an encoder's state dict.
SAMPLES = {
    ("timm", "timm"): lambda s: {**s, "head.weight": torch.ones(10, 24), "head.bias": torch.ones(10)},
    ("dino backbone", "timm"): lambda s: s,
    ("dino full", "dino"): lambda s: {
        "student": {**under("module.backbone.", others(s)), **under("module.", HEAD)},
        "teacher": {**under("backbone.", s), **HEAD},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": NAMESPACE,
        "dino_loss": {"center": torch.zeros(1, 8)},
    },
    ("student alone", "timm"): lambda s: {"student": under("module.backbone.", s), "epoch": np.int64(3)},
    ("ibot", "ibot"): lambda s: {"state_dict": {**s, "masked_embed": torch.zeros(1, 24)}},
    ("attmask", "ibot"): lambda s: {
        "teacher": {**under("module.backbone.", {**s, "masked_embed": torch.zeros(1, 24)}), **HEAD}
    },
    ("mae", "mae"): lambda s: {
        "model": {
            **s,
            "mask_token": torch.zeros(1, 1, 16),
            "decoder_pos_embed": torch.zeros(1, 17, 16),
            "decoder_blocks.0.norm1.weight": torch.ones(16),
        }
    },
    ("flat", "timm"): lambda s: {**under("module.backbone.", s), **under("module.", HEAD)},
    ("flat branches", "timm"): lambda s: {
        "model": {**under("student.backbone.", others(s)), **under("teacher.backbone.", s)}
    },
    ("nested", "timm"): lambda s: {"state_dict": {"model": under("module.", s)}, "rng": [1, 2]},
    ("linear patches", "timm"): lambda s: {
        "model": {**s, "patch_embed.proj.weight": s["patch_embed.proj.weight"].flatten(1)}
    },
}


@pytest.mark.parametrize(("name", "layout"), SAMPLES)
def test_every_layout_fills_the_encoder_and_is_named(tmp_path, name, layout):
    source, target = fresh(seed=1), fresh(seed=2)
    torch.save(SAMPLES[name, layout](source.model.state_dict()), tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(target, tmp_path / "checkpoint.pth")
    assert_same(source, target)
    assert len(coverage.used) == len(source.model.state_dict())
    assert coverage.missing == []
    assert not set(coverage.used) & set(coverage.unused)
    assert coverage.layout == registry.load(LAYOUTS, layout).title
    assert f"checkpoint.pth, read as {coverage.layout}: " in coverage.line()


@pytest.mark.parametrize("chunked", [False, True])
def test_dinov2(tmp_path, chunked):
    source, target = fresh(DINOV2, 1), fresh(DINOV2, 2)
    state = {**source.model.state_dict(), "mask_token": torch.zeros(1, 24)}
    if chunked:  # as saved from fully sharded training: blocks.<chunk>.<block>
        state = {
            key.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): state[key] for key in state
        }
    torch.save({"teacher": under("backbone.", state)}, tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(target, tmp_path / "checkpoint.pth")
    assert_same(source, target)
    assert coverage.unused == ["teacher.backbone.mask_token"]
    assert "DINOv2" in coverage.layout
    assert ("teacher.backbone.blocks.1.1.ls1.gamma" in coverage.used) == chunked


def test_dinov2_registers(tmp_path):
    # The published layout adds a position to CLS; timm's has it in the CLS token already.
    source, target = fresh(REGISTERS, 1), fresh(REGISTERS, 2)
    state = dict(source.model.state_dict())
    position = torch.full((1, 1, 24), 0.25)
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - position
    torch.save({**state, "mask_token": torch.zeros(1, 24)}, tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(target, tmp_path / "checkpoint.pth")
    assert coverage.unused == ["mask_token"]
    assert "register_tokens" in coverage.used
    assert "DINOv2" in coverage.layout
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(source(images).cls, target(images).cls)


DROPPED = """
import torch
from sslkit.weights.layouts.base import Layout

class Separate(Layout):
    title = "Separate projections (arXiv:0000.00000)"
    sign = r"\\.attn\\.query\\."
    containers = ("vision_tower", *Layout.containers)

    def timm_name(self, key):
        for part in ("query", "key", "value"):
            key = key.replace(f".attn.{part}.", ".attn.qkv.")
        return super().timm_name(key)

    def to_timm(self, state):
        found = {self.timm_name(key): value for key, value in state.items()}
        for key in [key for key in state if ".attn.query." in key]:
            parts = [state[key.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            found[self.timm_name(key)] = torch.cat(parts)
        return found
"""


def test_a_dropped_file_is_read_and_named(tmp_path, monkeypatch):
    (tmp_path / "separate.py").write_text(DROPPED)
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    source, target, state = fresh(seed=1), fresh(seed=2), {}
    for key, value in source.model.state_dict().items():
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True) if ".qkv." in key else [("qkv", value)]
        state |= {key.replace(".qkv.", f".{part}."): tensor for part, tensor in parts}
    torch.save({"vision_tower": state, "text_tower": {"a": torch.ones(1)}}, tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(target, tmp_path / "checkpoint.pth")
    assert_same(source, target)
    assert set(coverage.used) == {f"vision_tower.{key}" for key in state}
    assert coverage.unused == ["text_tower.a"]
    assert "read as Separate projections (arXiv:0000.00000)" in coverage.line()


def test_an_architecture_with_nested_blocks_is_not_taken_for_chunks(tmp_path):
    spec = EncoderSpec("mobilenetv3_small_050", image_size=32)
    source, target = Encoder(spec).eval(), Encoder(spec).eval()
    torch.save(source.model.state_dict(), tmp_path / "checkpoint.pth")
    assert load_checkpoint(target, tmp_path / "checkpoint.pth").layout == "timm's names"
    assert_same(source, target)
