"""Checkpoints of every published layout, made here from the weights of a tiny encoder."""

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from conftest import FIXTURES
from timm.layers import resample_abs_pos_embed

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.files import read_json
from sslkit.weights.read import load_checkpoint, load_encoder, save_encoder

TINY = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
DINOV2 = EncoderSpec("vit_small_patch14_dinov2", image_size=28, width=24, depth=2, heads=3)
REGISTERS = EncoderSpec("vit_small_patch14_reg4_dinov2", image_size=28, width=24, depth=2, heads=3)
ORACLE = FIXTURES / "vit_dino_tiny16.npz"


def fresh(spec: EncoderSpec = TINY, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    encoder = Encoder(spec).eval()
    with torch.no_grad():
        for tensor in encoder.model.parameters():
            tensor.normal_(0, 0.05)
    return encoder


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


def others(state: dict) -> dict:
    return {key: torch.full_like(value, 7.0) for key, value in state.items()}


HEAD = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}
NAMESPACE = argparse.Namespace(arch="vit_tiny", lr=np.float64(0.1), out=Path("x"))
LAYOUTS = {
    "timm": lambda s: {**s, "head.weight": torch.ones(10, 24), "head.bias": torch.ones(10)},
    "dino backbone": lambda s: s,
    "dino full": lambda s: {
        "student": {**under("module.backbone.", others(s)), **under("module.", HEAD)},
        "teacher": {**under("backbone.", s), **HEAD},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": NAMESPACE,
        "dino_loss": {"center": torch.zeros(1, 8)},
    },
    "student alone": lambda s: {"student": under("module.backbone.", s), "epoch": np.int64(3)},
    "ibot": lambda s: {"state_dict": {**s, "masked_embed": torch.zeros(1, 24)}},
    "attmask": lambda s: {"teacher": {**under("module.backbone.", {**s, "masked_embed": torch.zeros(1, 24)}), **HEAD}},
    "mae": lambda s: {
        "model": {
            **s,
            "mask_token": torch.zeros(1, 1, 16),
            "decoder_pos_embed": torch.zeros(1, 17, 16),
            "decoder_blocks.0.norm1.weight": torch.ones(16),
        }
    },
    "flat": lambda s: {**under("module.backbone.", s), **under("module.", HEAD)},
    "flat branches": lambda s: {"model": {**under("student.backbone.", others(s)), **under("teacher.backbone.", s)}},
    "nested": lambda s: {"state_dict": {"model": under("module.", s)}, "rng": [1, 2]},
    "linear patches": lambda s: {"model": {**s, "patch_embed.proj.weight": s["patch_embed.proj.weight"].flatten(1)}},
}


def assert_same(a: Encoder, b: Encoder) -> None:
    for key, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[key]), key


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_fills_the_encoder(tmp_path, name):
    source, target = fresh(seed=1), fresh(seed=2)
    torch.save(LAYOUTS[name](source.model.state_dict()), tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(target, tmp_path / "checkpoint.pth")
    assert_same(source, target)
    assert len(coverage.used) == len(source.model.state_dict()) and coverage.missing == []
    assert not set(coverage.used) & set(coverage.unused)


def test_the_report_names_what_was_used_and_what_was_not(tmp_path):
    source = fresh()
    torch.save(LAYOUTS["dino full"](source.model.state_dict()), tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(fresh(seed=2), tmp_path / "checkpoint.pth")
    assert coverage.path == ("teacher", "backbone")
    assert "teacher.backbone.cls_token" in coverage.used
    assert "teacher.head.mlp.0.weight" in coverage.unused
    assert "student.module.backbone.cls_token" in coverage.unused
    assert "dino_loss.center" in coverage.unused
    assert coverage.remarks == ["holds teacher and student: the teacher is used"]
    assert "teacher" in coverage.line() and "\n" not in coverage.line()


def test_safetensors(tmp_path):
    source, target = fresh(seed=1), fresh(seed=2)
    safetensors.torch.save_file(source.model.state_dict(), tmp_path / "model.safetensors")
    load_checkpoint(target, tmp_path / "model.safetensors")
    assert_same(source, target)


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
    assert coverage.unused == ["mask_token"] and "register_tokens" in coverage.used
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(source(images).cls, target(images).cls)


def test_another_grid_is_resampled_and_said(tmp_path):
    source = fresh()
    target = Encoder(EncoderSpec(**{**vars(TINY), "image_size": 48}))
    torch.save(source.model.state_dict(), tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(target, tmp_path / "checkpoint.pth")
    expected = resample_abs_pos_embed(source.model.pos_embed.data, [6, 6], [4, 4])
    assert torch.equal(target.model.pos_embed.data, expected)
    assert coverage.remarks == ["positions resampled from 4x4 to 6x6 by timm (bicubic, antialias)"]


def test_another_patch_size_is_resampled_and_said(tmp_path):
    target = Encoder(EncoderSpec(**{**vars(TINY), "image_size": 64, "patch_size": 16}))
    torch.save(fresh().model.state_dict(), tmp_path / "checkpoint.pth")
    assert load_checkpoint(target, tmp_path / "checkpoint.pth").remarks == [
        "patch embedding resampled from 8 to 16 px by timm"
    ]


def refused(tmp_path: Path, content: object, spec: EncoderSpec = TINY) -> str:
    torch.save(content, tmp_path / "checkpoint.pth")
    encoder = fresh(spec, 5)
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    with pytest.raises(SslkitError) as caught:
        load_checkpoint(encoder, tmp_path / "checkpoint.pth")
    assert all(torch.equal(value, before[key]) for key, value in encoder.model.state_dict().items())
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    return str(caught.value)


def test_a_narrower_encoder_is_refused(tmp_path):
    wide = fresh(EncoderSpec(**{**vars(TINY), "width": 48}))
    message = refused(tmp_path, wide.model.state_dict())
    assert "another architecture" in message and "width 48, 2 blocks, patch 8" in message and "--arch" in message


def test_a_deeper_encoder_is_refused(tmp_path):
    message = refused(tmp_path, fresh(EncoderSpec(**{**vars(TINY), "depth": 3})).model.state_dict())
    assert "blocks.2.norm1.weight" in message and "3 blocks" in message


def test_missing_keys_are_named(tmp_path):
    state = fresh().model.state_dict()
    del state["blocks.1.attn.qkv.bias"]
    assert "1 of 30 keys are missing: blocks.1.attn.qkv.bias" in refused(tmp_path, state)


def test_layer_scale_without_a_place_is_refused(tmp_path):
    # Features of DINOv2 without its layer scale would be plausible, and wrong.
    spec = EncoderSpec("vit_small_patch16_224", image_size=28, patch_size=14, width=24, depth=2, heads=3)
    assert "ls1.gamma" in refused(tmp_path, fresh(DINOV2).model.state_dict(), spec)


@pytest.mark.parametrize("content", [{"epoch": 3}, {"fc.weight": torch.ones(2)}, [torch.ones(2)]])
def test_a_file_without_an_encoder_is_refused(tmp_path, content):
    assert "holds no encoder" in refused(tmp_path, content)


class Code:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    message = refused(tmp_path, {"model": fresh().model.state_dict(), "extra": Code(tmp_path / "ran")})
    assert "never run" in message and "mkdir" in message
    assert not (tmp_path / "ran").exists()


def test_unreadable_files_are_one_line_each(tmp_path):
    torch.save(fresh().model.state_dict(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.safetensors").write_text("hello hello hello")
    for name in ("cut.pth", "text.pth", "empty.pth", "text.safetensors", "absent.pth"):
        with pytest.raises(SslkitError, match=name) as caught:
            load_checkpoint(fresh(), tmp_path / name)
        assert "\n" not in str(caught.value)


def test_saved_encoders_load_with_plain_timm(tmp_path):
    encoder = fresh()
    save_encoder(encoder, tmp_path / "encoder.safetensors", tmp_path / "encoder.json", "teacher")
    info = read_json(tmp_path / "encoder.json")
    model = timm.create_model(info["arch"], **info["timm_kwargs"]).eval()
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "encoder.safetensors"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), encoder(images).cls)
    assert info["branch"] == "teacher"


def test_saving_is_deterministic_and_loading_restores(tmp_path):
    encoder = fresh(EncoderSpec(**{**vars(TINY), "drop_path": 0.1}))
    for name in ("a", "b"):
        save_encoder(encoder, tmp_path / f"{name}.safetensors", tmp_path / f"{name}.json", "student")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    loaded = load_encoder(tmp_path / "a.safetensors", tmp_path / "a.json")
    assert_same(encoder, loaded)
    assert not loaded.training and not loaded.drop_rates
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SslkitError, match=r"no encoder\.json"):
        load_encoder(tmp_path / "a.safetensors", tmp_path / "a.json")


def formula(keys: np.ndarray, like: dict) -> dict:
    """The weights of the oracle, see the README beside it."""
    state = {}
    for i, key in enumerate(sorted(keys.tolist())):
        j = np.arange(like[key].numel(), dtype=np.float64)
        value = 0.06 * np.sin(0.37 * j * (1 + 0.01 * i) + 1.3 * i + 1)
        if "norm" in key and key.endswith("weight"):
            value += 1
        state[key] = torch.from_numpy(value.astype(np.float32)).view(like[key].shape)
    return state


def test_dino_vit_tiny_agrees_with_the_authors_code(tmp_path):
    oracle = np.load(ORACLE)
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224")).eval()
    state = formula(oracle["keys"], encoder.model.state_dict())
    torch.save({"teacher": {**under("module.backbone.", state), **HEAD}}, tmp_path / "checkpoint.pth")
    load_checkpoint(encoder, tmp_path / "checkpoint.pth")
    images = torch.from_numpy((1.5 * np.sin(0.013 * np.arange(2 * 3 * 224 * 224) + 1)).astype(np.float32))
    with torch.no_grad():
        tokens = encoder(images.view(2, 3, 224, 224), attention=True)
        blocks, patch_mean = encoder.last_cls(images.view(2, 3, 224, 224), 4)
    assert tokens.patches is not None and tokens.attention is not None and patch_mean is not None
    for name, found in {
        "cls_last4": blocks.transpose(0, 1),
        "patch_mean_last": patch_mean,
        "patch_0_last": tokens.patches[:, 0],
        "attention_cls": tokens.attention,
    }.items():
        # Of the whole array: the oracle's own float32 attention is 9.6e-6 from a float64 run in single entries.
        error = np.linalg.norm(found.numpy() - oracle[name]) / np.linalg.norm(oracle[name])
        assert error < 1e-5, name
