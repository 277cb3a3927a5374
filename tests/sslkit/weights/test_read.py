"""Reading checkpoints: what is reported, what is refused, and the authors' own features."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import FIXTURES, read_npz
from timm.layers.pos_embed import resample_abs_pos_embed
from tiny_encoders import DINOV2, TINY, assert_same, fresh, under

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.weights.checkpoint import open_checkpoint
from sslkit.weights.read import load_checkpoint, load_encoder, spec_of

ORACLE = FIXTURES / "vit_dino_tiny16.npz"


HEAD = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}


def test_the_report_names_what_was_used_and_what_was_not(tmp_path):
    source = fresh()
    state = source.model.state_dict()
    tree = {
        "student": {**under("module.backbone.", state), **under("module.", HEAD)},
        "teacher": {**under("backbone.", state), **HEAD},
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    torch.save(tree, tmp_path / "checkpoint.pth")
    coverage = load_checkpoint(fresh(seed=2), tmp_path / "checkpoint.pth")
    assert coverage.path == ("teacher", "backbone")
    assert "teacher.backbone.cls_token" in coverage.used
    assert "teacher.head.mlp.0.weight" in coverage.unused
    assert "student.module.backbone.cls_token" in coverage.unused
    assert "dino_loss.center" in coverage.unused
    assert coverage.remarks == ["holds teacher and student: the teacher is used"]
    assert "teacher" in coverage.line()
    assert "\n" not in coverage.line()


@pytest.mark.parametrize(
    "prefix", ["{}.backbone.", "{}.module.backbone.", "method.{}.encoder.model.", "method.{}.model."]
)
def test_a_branch_can_be_named(tmp_path, prefix):
    branches = {"student": fresh(seed=1), "teacher": fresh(seed=2)}
    tree: dict = {}
    for branch, encoder in branches.items():
        tree |= under(prefix.format(branch), encoder.model.state_dict())
    torch.save(tree, tmp_path / "checkpoint.pth")
    for branch, encoder in branches.items():
        target = fresh(seed=3)
        coverage = load_checkpoint(target, tmp_path / "checkpoint.pth", branch)
        assert_same(encoder, target)
        assert len(coverage.unused) == len(encoder.model.state_dict())
        assert coverage.remarks == []


@pytest.mark.parametrize("prefix", ["", "model.", "student.backbone.", "method.student.encoder.model."])
def test_a_branch_that_a_file_lacks_is_refused(tmp_path, prefix):
    torch.save(under(prefix, fresh().model.state_dict()), tmp_path / "checkpoint.pth")
    with pytest.raises(SslkitError, match=r"checkpoint\.pth holds no encoder of a teacher$"):
        load_checkpoint(fresh(), tmp_path / "checkpoint.pth", "teacher")


def test_safetensors(tmp_path):
    source, target = fresh(seed=1), fresh(seed=2)
    safetensors.torch.save_file(source.model.state_dict(), tmp_path / "model.safetensors")
    load_checkpoint(target, tmp_path / "model.safetensors")
    assert_same(source, target)


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
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_a_narrower_encoder_is_refused(tmp_path):
    wide = fresh(EncoderSpec(**{**vars(TINY), "width": 48}))
    message = refused(tmp_path, wide.model.state_dict())
    assert "another architecture" in message
    assert "width 48, 2 blocks, patch 8" in message
    assert "--arch" in message


def test_a_deeper_encoder_is_refused(tmp_path):
    message = refused(tmp_path, fresh(EncoderSpec(**{**vars(TINY), "depth": 3})).model.state_dict())
    assert "blocks.2.norm1.weight" in message
    assert "3 blocks" in message


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
    assert "never run" in message
    assert "mkdir" in message
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


def test_another_json_is_not_taken_for_encoder_json(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SslkitError, match=r"not an encoder\.json"):
        load_encoder(tmp_path / "a.safetensors", tmp_path / "a.json")


def formula(keys: np.ndarray, like: dict) -> dict:
    """The weights of the oracle, see the README next to it."""
    state = {}
    for i, key in enumerate(sorted(keys.tolist())):
        j = np.arange(like[key].numel(), dtype=np.float64)
        value = 0.06 * np.sin(0.37 * j * (1 + 0.01 * i) + 1.3 * i + 1)
        if "norm" in key and key.endswith("weight"):
            value += 1
        state[key] = torch.from_numpy(value.astype(np.float32)).view(like[key].shape)
    return state


def test_dino_vit_tiny_agrees_with_the_authors_code(tmp_path):
    oracle = read_npz(ORACLE)
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224")).eval()
    state = formula(oracle["keys"], encoder.model.state_dict())
    torch.save({"teacher": {**under("module.backbone.", state), **HEAD}}, tmp_path / "checkpoint.pth")
    load_checkpoint(encoder, tmp_path / "checkpoint.pth")
    images = torch.from_numpy((1.5 * np.sin(0.013 * np.arange(2 * 3 * 224 * 224) + 1)).astype(np.float32))
    with torch.no_grad():
        tokens = encoder(images.view(2, 3, 224, 224), attention=True)
        blocks, patch_mean = encoder.last_cls(images.view(2, 3, 224, 224), 4)
    assert tokens.patches is not None
    assert tokens.attention is not None
    assert patch_mean is not None
    for name, found in {
        "cls_last4": blocks.transpose(0, 1),
        "patch_mean_last": patch_mean,
        "patch_0_last": tokens.patches[:, 0],
        "attention_cls": tokens.attention,
    }.items():
        # Of the whole array: the oracle's own float32 attention is 9.6e-6 from a float64 run in single entries.
        error = np.linalg.norm(found.numpy() - oracle[name]) / np.linalg.norm(oracle[name])
        assert error < 1e-5, name


def circular() -> dict:
    tree: dict = {"model": {}}
    tree["model"]["model"] = tree
    return tree


@pytest.mark.parametrize("content", [{"teacher": None}, {"model": {"state_dict": 3}}, {"teacher": [], "student": "x"}])
def test_containers_that_hold_nothing_end(tmp_path, content):
    assert "holds no encoder" in refused(tmp_path, content)


def test_a_structure_that_contains_itself_ends(tmp_path):
    assert "nested over 16 deep, or in themselves" in refused(tmp_path, circular())


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda t: t.fill_(float("nan")), "not finite"),
        (lambda t: t.index_fill(0, torch.tensor([0]), float("inf")), "not finite"),
        (lambda t: t.to(torch.int32), "is of type int32, not of a floating-point type"),
        (lambda t: t.to(torch.complex64), "is of type complex64"),
        (lambda t: t.to_sparse(), "is sparse, quantized or without content"),
        (lambda t: t.to("meta"), "is sparse, quantized or without content"),
    ],
)
def test_tensors_that_no_training_writes_are_refused(tmp_path, damage, what):
    state = fresh().model.state_dict()
    state["blocks.1.mlp.fc1.weight"] = damage(state["blocks.1.mlp.fc1.weight"].clone())
    message = refused(tmp_path, {"model": state})
    assert "its tensor model.blocks.1.mlp.fc1.weight" in message
    assert what in message


def test_half_precision_is_read(tmp_path):
    source, target = fresh(seed=1), fresh(seed=2)
    torch.save({key: value.half() for key, value in source.model.state_dict().items()}, tmp_path / "half.pth")
    load_checkpoint(target, tmp_path / "half.pth")
    assert target.model.cls_token.dtype == torch.float32
    assert torch.equal(target.model.cls_token, source.model.cls_token.half().float())


def test_positions_that_are_no_square_are_refused(tmp_path):
    state = fresh().model.state_dict()
    state["pos_embed"] = torch.zeros(1, 1 + 12, 24)
    assert "no square grid" in refused(tmp_path, state)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("pos_embed", lambda v: v[:, :0]),
        ("pos_embed", lambda v: v[0]),
        ("pos_embed", lambda v: v[None]),
        ("patch_embed.proj.weight", lambda v: v[:, :, :0]),
        ("patch_embed.proj.weight", lambda v: v[..., :4]),
        ("patch_embed.proj.weight", lambda v: v[..., None]),
        ("patch_embed.proj.weight", lambda v: torch.tensor(1.0)),
    ],
)
def test_shapes_that_no_vit_has_are_refused(key, change, tmp_path):
    state = Encoder(TINY).model.state_dict()
    said = refused(tmp_path, {**state, key: change(state[key])}, TINY)
    assert f"its {key} has the shape" in said
    with pytest.raises(SslkitError, match="has the shape"):
        spec_of(open_checkpoint(tmp_path / "checkpoint.pth"))


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"), (b"<!doctype html>", "web page")],
)
def test_what_is_downloaded_instead_of_weights_is_named(content, what, tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SslkitError, match=what):
            load_checkpoint(Encoder(TINY), tmp_path / name)


def test_a_path_that_is_not_utf8_is_opened(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    path.write_bytes(safetensors.torch.save(Encoder(TINY).model.state_dict()))
    assert load_checkpoint(Encoder(TINY), path).missing == []


def test_an_exported_graph_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "encoder.torchscript.pt", "w") as archive:
        archive.writestr("encoder/constants.pkl", b"")
    with pytest.raises(SslkitError, match="is a program, not weights"):
        load_checkpoint(fresh(), tmp_path / "encoder.torchscript.pt")
