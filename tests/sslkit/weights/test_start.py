"""A method that starts from a file: every encoder, the heads and decoders that fit, and a report of what did not."""

from pathlib import Path

import pytest
import tiny_methods
import torch
from conftest import ROOT
from tiny_methods import RECIPES

from sslkit.encoder.encoder import Encoder
from sslkit.methods.base import DataFacts
from sslkit.methods.joint_embedding import JointEmbedding
from sslkit.methods.mae import MaskedAutoencoder
from sslkit.recipe.schema import Recipe, resolve
from sslkit.weights.checkpoint import open_checkpoint
from sslkit.weights.start import StartingWeights, start_from
from sslkit.weights.write import save_encoder


@pytest.fixture
def recipe(tiny_scale):
    """A shipped recipe at a tiny scale, with settings on top."""

    def resolved(name: str, *more: str) -> Recipe:
        return resolve([ROOT / "stages" / "recipes" / f"{name}.yaml", tiny_scale], more)

    return resolved


def built(kind, settings: Recipe, seed: int):
    torch.manual_seed(seed)
    method = kind(settings, DataFacts(samples=8))
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:  # positions that are computed stay
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return method


def published_dino(method: JointEmbedding) -> dict:
    """The authors' layout: backbone and head of both branches."""
    tree = {"dino_loss": {"center": torch.full((1, 32), 0.5)}, "epoch": 3}
    assert method.teacher is not None
    for name, branch in (("student", method.student), ("teacher", method.teacher)):
        head = branch.heads["prototypes"].state_dict()
        head["last_layer.weight_v"], head["last_layer.weight_g"] = head.pop("prototypes"), head.pop("length")
        state = {f"backbone.{key}": value for key, value in branch.encoder.model.state_dict().items()}
        prefix = "module." if name == "student" else ""
        tree[name] = {prefix + key: value for key, value in {**state, **{f"head.{k}": head[k] for k in head}}.items()}
    return tree


def begin(path: Path, settings: Recipe) -> StartingWeights:
    return start_from(open_checkpoint(path), Encoder.from_section(settings.encoder))


def same(a: torch.nn.Module, b: torch.nn.Module) -> None:
    other = b.state_dict()
    for key, value in a.state_dict().items():
        assert torch.equal(value, other[key]), key


def test_dino_with_heads_fills_both_branches_from_the_teacher(tmp_path, recipe):
    settings = recipe("dino")
    source, target = built(JointEmbedding, settings, 1), built(JointEmbedding, settings, 2)
    torch.save(published_dino(source), tmp_path / "checkpoint.pth")
    start = begin(tmp_path / "checkpoint.pth", settings)
    parts = start.apply(target)
    assert source.teacher is not None
    assert target.teacher is not None
    for branch in (target.student, target.teacher):
        same(branch.encoder.model, source.teacher.encoder.model)
        same(branch.heads, source.teacher.heads)
    assert target.state_dict()["objectives.dino.center"].tolist() == [0.5] * 32
    assert start.coverage.layout == "DINO (arXiv:2104.14294)"
    assert parts.taken == ["heads.prototypes (8)", "objectives.dino (1)"]
    assert parts.left == []
    assert parts.fresh == []


def test_prototypes_of_another_number_are_left_and_said(tmp_path, recipe):
    source = built(JointEmbedding, recipe("dino"), 1)
    torch.save(published_dino(source), tmp_path / "checkpoint.pth")
    settings = recipe("dino", "heads.prototypes.out=48")
    target = built(JointEmbedding, settings, 2)
    parts = begin(tmp_path / "checkpoint.pth", settings).apply(target)
    assert parts.taken == ["heads.prototypes (6)"]
    assert parts.left[0].startswith("heads.prototypes: teacher.head.last_layer.weight_")
    assert parts.left[0].endswith("here")
    assert parts.left[1] == "objectives.dino: dino_loss.center is (32,) in the file, (48,) here"
    assert parts.fresh == ["heads.prototypes", "objectives.dino"]


def test_a_run_of_mae_brings_its_decoder_to_mae_and_not_to_dino(tmp_path, recipe):
    settings = recipe("mae")
    source, target = built(MaskedAutoencoder, settings, 1), built(MaskedAutoencoder, settings, 2)
    torch.save({"step": 1, "method": source.state_dict(), "optimizer": {}}, tmp_path / "checkpoint.pt")
    parts = begin(tmp_path / "checkpoint.pt", settings).apply(target)
    same(target.decoder, source.decoder)
    same(target.student, source.student)
    assert parts.left == []
    assert parts.fresh == []
    dino = recipe("dino")
    parts = begin(tmp_path / "checkpoint.pt", dino).apply(built(JointEmbedding, dino, 3))
    assert parts.left == ["decoder: 19 tensors for which this recipe has no place"]
    assert parts.fresh == ["heads.prototypes", "objectives.dino"]


def test_the_authors_mae_brings_its_decoder(tmp_path, recipe):
    settings = recipe("mae")
    source, target = built(MaskedAutoencoder, settings, 1), built(MaskedAutoencoder, settings, 2)
    names = {"embed": "decoder_embed", "blocks": "decoder_blocks", "norm": "decoder_norm", "predict": "decoder_pred"}
    tree = dict(source.student.model.state_dict())
    for key, value in source.decoder.state_dict().items():
        first, _, rest = key.partition(".")
        if first in names:
            tree[f"{names[first]}.{rest}"] = value
    tree["mask_token"] = source.decoder.mask_token.data
    torch.save({"model": tree}, tmp_path / "mae.pth")
    parts = begin(tmp_path / "mae.pth", settings).apply(target)
    same(target.decoder, source.decoder)
    assert parts.taken == ["decoder (19)"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_branch_that_a_run_exports_is_the_one_that_is_read(tmp_path, recipe, tiny_scale, name):
    method = tiny_methods.build(name, tiny_scale)
    encoder, branch = method.exported()
    with torch.no_grad():
        encoder.model.norm.bias.fill_(0.5)  # unlike that of another branch
    save_encoder(encoder, tmp_path / "encoder.safetensors", tmp_path / "encoder.json", branch)
    torch.save({"method": method.state_dict()}, tmp_path / "checkpoint.pt")
    start = begin(tmp_path / "checkpoint.pt", recipe(name))
    same(start.encoder.model, encoder.model)
    teacher = any(key.startswith("teacher.") for key in method.state_dict())
    assert start.coverage.remarks == ([f"holds teacher and student: the {branch} is used"] if teacher else [])
