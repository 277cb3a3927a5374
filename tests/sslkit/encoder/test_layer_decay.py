"""Frozen blocks and layer-wise decay of the learning rate, as a recipe asks for them."""

import pytest
import torch
from conftest import ROOT

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.layer_decay import factors
from sslkit.errors import UsageError
from sslkit.methods.joint_embedding import JointEmbedding
from sslkit.recipe.schema import Recipe, resolve
from sslkit.recipe.sections import EncoderSection

TINY = {"arch": "vit_tiny_patch16_224", "image_size": 32, "patch_size": 8, "width": 24, "depth": 3, "heads": 3}


def frozen(what: object) -> set[str]:
    encoder = Encoder.from_section(EncoderSection.model_validate({**TINY, "freeze": what}))
    return {name for name, parameter in encoder.model.named_parameters() if not parameter.requires_grad}


def test_nothing_is_frozen_by_default():
    assert frozen(None) == set()


def test_the_patch_embedding_alone():
    assert frozen("patch_embed") == {"patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_embeddings_and_the_first_blocks():
    names = frozen(2)
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= names
    assert {name.split(".")[1] for name in names if name.startswith("blocks.")} == {"0", "1"}
    assert not any(name.startswith("norm.") for name in names)
    assert {name.split(".")[0] for name in frozen(0)} == {"cls_token", "pos_embed", "patch_embed"}


def test_frozen_blocks_drop_no_path():
    section = EncoderSection.model_validate({**TINY, "freeze": 2, "drop_path": 0.3})
    assert Encoder.from_section(section).drop_rates[:4] == [0.0] * 4
    assert Encoder.from_section(section).drop_rates[4] > 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({**TINY, "freeze": 4}, "vit_tiny_patch16_224 has 3 blocks here"),
        ({"arch": "resnet18", "freeze": 1}, "not a ViT"),
    ],
)
def test_what_cannot_be_frozen_is_refused(section, message):
    with pytest.raises(UsageError, match=message):
        Encoder.from_section(EncoderSection.model_validate(section))


@pytest.fixture
def recipe(tiny_scale):
    return lambda *more: resolve([ROOT / "stages" / "recipes" / "dino.yaml", tiny_scale], more)


def method(recipe: Recipe) -> JointEmbedding:
    torch.manual_seed(0)
    return JointEmbedding(recipe)


def test_rates_fall_towards_the_input_and_heads_keep_theirs(recipe):
    built = method(recipe("optim.layer_decay=0.5"))
    student, rates = built.student, built.rate_factors()
    assert rates == factors(student.encoder, 0.5)
    assert rates[student.encoder.model.norm.weight] == 1
    assert rates[student.encoder.model.blocks[1].attn.qkv.weight] == 0.5
    assert rates[student.encoder.model.cls_token] == 0.125
    assert not any(parameter in rates for parameter in student.heads.parameters())
    assert method(recipe()).rate_factors() == {}


def test_layer_decay_of_another_model_is_refused(recipe):
    sizes = [f"encoder.{size}=null" for size in ("patch_size", "width", "depth", "heads")]
    built = method(recipe("encoder.arch=resnet18", "optim.layer_decay=0.5", *sizes))
    with pytest.raises(UsageError, match="requires a ViT, which resnet18 is not"):
        built.rate_factors()
