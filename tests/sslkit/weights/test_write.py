"""Encoders on disk: plain timm loads them, and the same weights give the same bytes."""

import safetensors.torch
import timm
import torch

from sslkit.artifacts import read_json
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.weights.read import load_encoder
from sslkit.weights.write import save_encoder

TINY = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3, drop_path=0.1)


def test_saved_encoders_load_with_plain_timm(tmp_path):
    encoder = Encoder(TINY).eval()
    save_encoder(encoder, tmp_path / "encoder.safetensors", tmp_path / "encoder.json", "teacher")
    info = read_json(tmp_path / "encoder.json")
    model = timm.create_model(info["arch"], **info["timm_kwargs"]).eval()
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "encoder.safetensors"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), encoder(images).cls)
    assert info["branch"] == "teacher"
    assert "range" not in info


def test_the_range_of_wide_images_is_recorded(tmp_path):
    paths = tmp_path / "encoder.safetensors", tmp_path / "encoder.json"
    save_encoder(Encoder(TINY), *paths, "student", {"range": [0, 4095], "started_from": None})
    info = read_json(paths[1])
    assert info["range"] == [0, 4095]
    assert "started_from" not in info


def test_saving_is_deterministic(tmp_path):
    encoder = Encoder(TINY)
    for name in ("a", "b"):
        save_encoder(encoder, tmp_path / f"{name}.safetensors", tmp_path / f"{name}.json", "student")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_loading_restores_the_weights_without_drop_path(tmp_path):
    encoder = Encoder(TINY)
    save_encoder(encoder, tmp_path / "a.safetensors", tmp_path / "a.json", "student")
    loaded = load_encoder(tmp_path / "a.safetensors", tmp_path / "a.json")
    for key, value in encoder.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key]), key
    assert not loaded.training
    assert not loaded.drop_rates
