"""Blocks that are recomputed in the backward pass give the same gradients, to the bit, from less memory."""

import json

import pytest
import torch
from tiny_methods import CPU, RECIPES, batch_of, begun, build
from torch import nn

from sslkit.device import autocast
from sslkit.encoder.recompute import recompute_blocks
from sslkit.schedules import Moment

AT = Moment(3, 10, 10)


def gradients(tiny_scale, name: str, recomputed: bool, precision="fp32", compiled=False):
    method = begun(build(name, tiny_scale, "encoder.drop_path=0.5"))
    if recomputed:
        assert recompute_blocks(method) >= 2
    method.suit_device(CPU, "on" if compiled else "off", precision)
    kept: dict[int, int] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with autocast(CPU, precision), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = method(batch_of(method), AT).loss
    loss.backward()
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}, sum(kept.values())


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_are_the_same_to_the_bit(tiny_scale, name):
    plain, memory = gradients(tiny_scale, name, recomputed=False)
    again, less = gradients(tiny_scale, name, recomputed=True)
    assert_equal(plain, again)
    assert less < memory


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_so_they_are_under_autocast(tiny_scale, precision):
    results = [gradients(tiny_scale, "attmask-distill", recomputed, precision)[0] for recomputed in (False, True)]
    assert_equal(*results)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo's own
def test_so_they_are_when_compiled(tiny_scale, monkeypatch):
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled(self, backend="eager"))
    results = [gradients(tiny_scale, "attmask", recomputed, compiled=True)[0] for recomputed in (False, True)]
    torch._dynamo.reset()
    assert_equal(*results)


def test_a_run_may_go_on_with_it(sslkit, shapes_run, tiny_scale, tmp_path, stops_at):
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, "--device", "cpu", "--workers", 0]
    words += ["--precision", "fp32"]
    assert sslkit("pretrain", tmp_path / "a", *words)[0] == 0
    with stops_at(3):
        assert sslkit("pretrain", tmp_path / "b", *words)[0] == 143
    code, _, err = sslkit("pretrain", tmp_path / "b", *words, "--set", "train.checkpoint_blocks=true")
    assert code == 0, err
    for name in ("encoder.safetensors", "checkpoint.pt"):
        one, other = ((tmp_path / run / "pretrain" / name).read_bytes() for run in "ab")
        assert one == other, name
    assert json.loads((tmp_path / "b" / "pretrain" / "stage.json").read_text())["how"]["checkpoint_blocks"]


def test_a_model_without_blocks_is_told_so(sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", "simclr", "--recipe", tiny_scale, "--arch", "resnet18", "--dry-run"]
    words += ["--device", "cpu", "--set", "train.checkpoint_blocks=true"]
    code, _, err = sslkit("pretrain", tmp_path / "a", *words)
    assert code == 0, err
    assert "train.checkpoint_blocks does nothing: resnet18 has no transformer blocks" in err
