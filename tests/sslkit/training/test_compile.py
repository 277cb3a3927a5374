"""What ``train.compile`` makes of transformer blocks: whole graphs, and no new one for every number of tokens."""

import pytest
import torch
from tiny_methods import CPU, batch_of, build
from torch import nn
from torch._dynamo.utils import counters

from sslkit.device import autocast
from sslkit.schedules import Moment

STEPS = 30


@pytest.fixture
def blocks_compile_in_no_time(monkeypatch):
    """Captures graphs as always, but runs them as they are."""
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled(self, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo's own
@pytest.mark.usefixtures("blocks_compile_in_no_time")
@pytest.mark.parametrize(
    ("name", "overrides", "graphs"),
    [
        # Student: one for each size of crops. Teacher, without gradient: one. Evaluation: another, or the teacher's.
        ("attmask", [], 4),
        ("ibot", [], 4),
        ("dino", [], 4),
        # Encoder, decoder, and the encoder of the evaluation.
        ("mae", [], 3),
        # How many tokens the encoder sees changes from step to step: after the second number, one graph fits all.
        ("mae", ["mask.ratio=[0.3,0.8]"], 4),
        ("ijepa", [], 5),
    ],
)
def test_blocks_have_no_graph_breaks_and_few_graphs(tiny_scale, name, overrides, graphs):
    method = build(name, tiny_scale, *overrides)
    method.suit_device(CPU, "on", "fp32")
    batch, seen = batch_of(method, 2), []
    for step in range(STEPS):
        with autocast(CPU, "bf16"):
            method(batch, Moment(step, STEPS, 1))
        if step % 10 == 0:
            evaluate(method.exported()[0])
        seen.append(counters["stats"]["unique_graphs"])
    assert dict(counters["graph_break"]) == {}
    assert 1 <= seen[-1] <= graphs
    assert seen[-1] == seen[STEPS // 3]  # none is new in the last two thirds


@torch.inference_mode()
def evaluate(encoder):
    """As the monitor does, with a last batch that is smaller."""
    encoder.eval()
    for images in (8, 3):
        with autocast(CPU, "bf16"):
            encoder(torch.zeros(images, 3, 32, 32))
    encoder.train()
