"""Models of Hugging Face transformers, built from a configuration and saved by the library itself."""

import pytest
import torch

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.weights.checkpoint import open_checkpoint
from sslkit.weights.read import load_checkpoint, spec_of

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
DECODER = {
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 96,
}
MODELS = {
    "ViTModel": ("ViTConfig", {}, "Hugging Face ViTModel"),
    "ViTForImageClassification": ("ViTConfig", {}, "Hugging Face ViTModel"),
    "Dinov2Model": ("Dinov2Config", {"mlp_ratio": 4}, "Hugging Face Dinov2Model"),
    "Dinov2WithRegistersModel": ("Dinov2WithRegistersConfig", {"mlp_ratio": 4}, "Hugging Face Dinov2Model"),
    "ViTMAEModel": ("ViTMAEConfig", {"mask_ratio": 0.0}, "Hugging Face ViTMAEModel"),
    "ViTMAEForPreTraining": ("ViTMAEConfig", {"mask_ratio": 0.0, **DECODER}, "Hugging Face ViTMAEModel"),
}


def saved(folder, name, **more):
    """A model of transformers in eval mode, which it has saved in a folder."""
    config, own, _ = MODELS[name]
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**{**SIZES, **own, **more})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_transformers(tmp_path, name):
    model = saved(tmp_path, name)
    checkpoint = open_checkpoint(tmp_path / "model.safetensors")
    spec, remarks = spec_of(checkpoint)
    encoder = Encoder(EncoderSpec(**spec)).eval()
    coverage = load_checkpoint(encoder, checkpoint)
    assert coverage.layout == MODELS[name][2]
    assert remarks == []
    assert coverage.missing == []
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        base = next((getattr(model, part) for part in ("vit", "dinov2") if hasattr(model, part)), model)
        expected = base(images).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(images).cls, expected, rtol=1e-5, atol=1e-5)


def test_names_of_version_5_are_read_as_well(tmp_path):
    model = saved(tmp_path / "model", "ViTModel")
    torch.save(model.state_dict(), tmp_path / "model" / "in_memory.pt")
    encoder = Encoder(EncoderSpec(**spec_of(open_checkpoint(tmp_path / "model/model.safetensors"))[0])).eval()
    coverage = load_checkpoint(encoder, tmp_path / "model" / "in_memory.pt")
    assert coverage.layout == "Hugging Face ViTModel"
    assert torch.equal(encoder.model.blocks[0].attn.qkv.weight[:24], model.layers[0].attention.q_proj.weight)


def test_sizes_of_published_models_have_a_name_in_timm(tmp_path):
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    saved(tmp_path, "ViTModel", **sizes)
    assert spec_of(open_checkpoint(tmp_path / "model.safetensors"))[0] == {
        "arch": "vit_small_patch16_224",
        "patch_size": 8,
        "image_size": 32,
        "norm_eps": 1e-12,
    }


def test_another_activation_is_refused(tmp_path):
    saved(tmp_path, "ViTModel", hidden_act="relu")
    with pytest.raises(SslkitError, match="hidden_act relu: only gelu"):
        spec_of(open_checkpoint(tmp_path / "model.safetensors"))


def test_sslkits_export_comes_back(tmp_path):
    from sslkit.export.formats.transformers import TransformersFolder

    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
    source = Encoder(spec).eval()
    TransformersFolder().write(source, tmp_path)
    found, _ = spec_of(open_checkpoint(tmp_path / "model.safetensors"))
    target = Encoder(EncoderSpec(**found)).eval()
    load_checkpoint(target, tmp_path / "model.safetensors")
    for key, value in source.model.state_dict().items():
        assert torch.equal(value, target.model.state_dict()[key]), key


def test_the_mask_token_and_the_decoder_are_there_to_start_from(tmp_path):
    from sslkit.weights.start import start_from

    for name, groups in {"Dinov2Model": {"mask_token"}, "ViTMAEForPreTraining": {"decoder"}}.items():
        model = saved(tmp_path / name, name)
        checkpoint = open_checkpoint(tmp_path / name / "model.safetensors")
        start = start_from(checkpoint, Encoder(EncoderSpec(**spec_of(checkpoint)[0])))
        assert {key.split(".")[0] for key in start.rest} == groups
        if name == "ViTMAEForPreTraining":
            qkv = start.rest["decoder.blocks.0.attn.qkv.weight"][1]
            assert torch.equal(qkv[24:48], model.decoder.decoder_layers[0].attention.k_proj.weight)
