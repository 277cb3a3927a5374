"""What the tool exports comes back, with its architecture and the same features."""

import pytest
import torch

from sslkit import registry
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.weights.checkpoint import open_checkpoint
from sslkit.weights.read import load_checkpoint, spec_of
from sslkit.weights.write import save_encoder

SPEC = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
FILES = {"pt": "encoder.pt", "timm": "model.safetensors", "run": "encoder.safetensors"}


@pytest.mark.parametrize("kind", FILES)
def test_an_export_comes_back(tmp_path, kind):
    torch.manual_seed(1)
    source, file = Encoder(SPEC).eval(), tmp_path / FILES[kind]
    if kind == "run":
        save_encoder(source, file, tmp_path / "encoder.json", "teacher")
    else:
        registry.load("sslkit.export.formats", kind)().write(source, tmp_path)
    checkpoint = open_checkpoint(file)
    spec, remarks = spec_of(checkpoint)
    target = Encoder(EncoderSpec(**spec)).eval()
    assert load_checkpoint(target, checkpoint).layout == "an encoder exported by sslkit or timm"
    assert remarks == []
    assert target.spec == SPEC
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(source(images).cls, target(images).cls)


def test_the_shapes_tell_where_nothing_else_does(tmp_path):
    spec = EncoderSpec("vit_small_patch14_dinov2", image_size=28, width=128, depth=2, heads=2)
    torch.save(Encoder(spec).model.state_dict(), tmp_path / "bare.pth")
    found, remarks = spec_of(open_checkpoint(tmp_path / "bare.pth"))
    assert EncoderSpec(**found) == EncoderSpec("vit_small_patch14_dinov2", 28, 14, 128, 2, 2)
    assert remarks == ["2 attention heads assumed, 64 wide each: the file does not say how many"]


def test_an_eps_of_its_own_survives_the_round_trip(tmp_path):
    source = Encoder(EncoderSpec(**{**vars(SPEC), "norm_eps": 1e-12}))
    save_encoder(source, tmp_path / "encoder.safetensors", tmp_path / "encoder.json", "teacher")
    spec, _ = spec_of(open_checkpoint(tmp_path / "encoder.safetensors"))
    assert Encoder(EncoderSpec(**spec)).model.norm.eps == 1e-12
