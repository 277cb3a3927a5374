"""The memory that a dry run foretells is what training holds, and what is said where there is too little."""

import json
from itertools import repeat

import pytest
import torch
from tiny_methods import CPU, batch_of, build
from tiny_trainers import trainer_of
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sslkit.data.order import Order
from sslkit.device import autocast
from sslkit.encoder.recompute import recompute_blocks
from sslkit.errors import SslkitError
from sslkit.optimizers import base as optim
from sslkit.schedules import Moment
from sslkit.training import memory
from sslkit.training.estimate import estimate
from sslkit.training.loop import Trainer

BATCH = 16


def foretold(method, precision) -> dict:
    order = Order(10 * BATCH, BATCH, method.recipe.train.accumulate)
    return estimate(method, batch_of(method, 2), method.recipe, order, precision)


def measured(method, precision, tmp_path, monkeypatch) -> float:
    """MB at the peak of three steps, as torch's allocator reports them."""
    trainer = trainer_of(method, tmp_path, precision=precision)
    monkeypatch.setattr(Trainer, "_log", lambda *_: None)
    batch = batch_of(method, BATCH // method.recipe.train.accumulate)
    there = [*method.parameters(), *method.buffers(), *batch.crops]
    there += [value for state in trainer.optimizer.state.values() for value in state.values()]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer.advance(repeat(batch), 3)
    changes = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    now = peak = sum(tensor.nbytes for tensor in there)
    for change in sorted(changes, key=lambda each: each.start_ns()):
        now += change.nbytes()
        peak = max(peak, now)
    return peak / 1e6


@pytest.mark.parametrize(
    ("name", "precision", "overrides"),
    [
        ("dino", "bf16", []),
        ("attmask", "bf16", []),
        ("mae", "fp32", []),
        ("simclr", "fp16", []),
        ("attmask", "fp32", ["train.accumulate=2"]),
        ("dino", "fp32", ["train.checkpoint_blocks=true"]),
        ("mae", "fp32", ["optim.name=sgd"]),
    ],
)
def test_the_peak_of_a_step_is_foretold(tiny_scale, tmp_path, monkeypatch, name, precision, overrides):
    method = build(name, tiny_scale, f"train.batch_size={BATCH}", "monitor.gradient_steps=2", *overrides)
    if method.recipe.train.checkpoint_blocks:
        recompute_blocks(method)
    found = foretold(method, precision)["memory at the peak, MB"]
    assert found == pytest.approx(measured(method, precision, tmp_path, monkeypatch), rel=0.1)


@pytest.mark.parametrize("words", ["optim.name=adamw", "optim.name=sgd", "optim={name: sgd, momentum: 0}"])
def test_an_optimizer_has_as_many_moments_as_it_keeps(tiny_scale, words):
    method = build("mae", tiny_scale, words)
    optimizer = optim.build(method, method.recipe.optim)
    method(batch_of(method, 2), Moment(0, 10, 10)).loss.backward()
    optimizer.step()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = sum(v.numel() for state in optimizer.state.values() for key, v in state.items() if v is not None and v.ndim)
    assert kept == method.recipe.optim.moments * sum(parameter.numel() for parameter in trained)


@pytest.mark.parametrize("name", ["attmask", "mae"])
def test_flops_are_those_of_torchs_counter(tiny_scale, name):
    method = build(name, tiny_scale)
    batch = batch_of(method, 2)
    found = []
    for counter in (FlopCounterMode(display=False), memory.Accounts(method.parameters(), [])):
        with counter, autocast(CPU, "bf16"):
            method(batch, Moment(0, 10, 10)).loss.backward()
        found.append(counter.flops if isinstance(counter, memory.Accounts) else counter.get_total_flops())
    assert found[0] == found[1] > 1e6


def test_fused_attention_counts_as_the_products_that_it_replaces():
    q = torch.randn(2, 3, 65, 16, requires_grad=True)
    with memory.Accounts([], []) as fused, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = F.scaled_dot_product_attention(q, q, q)
        forward = fused.flops
        out.sum().backward()
    with memory.Accounts([], []) as products:
        _ = q @ q.transpose(-2, -1) @ q
    assert forward == products.flops > 0
    assert fused.flops == 3.5 * forward  # both passes; five products instead of four: it computes q k^T again


def test_estimating_leaves_no_gradients(tiny_scale):
    method = build("dino", tiny_scale, f"train.batch_size={BATCH}", "train.accumulate=2")
    foretold(method, "bf16")
    assert all(parameter.grad is None for parameter in method.parameters())


def test_where_the_peak_is_may_depend_on_the_batch():
    # After the first operation 100 bytes, whatever the batch; after the second 10 for each image.
    assert memory.peak_of(2, 2, [100, 20], [100, 40]) == 100
    assert memory.peak_of(64, 2, [100, 20], [100, 40]) == 640
    # Other operations: from peak to peak.
    assert memory.peak_of(8, 2, [10, 20], [10, 40, 5]) == 80


@pytest.mark.parametrize(
    ("peak", "free", "expected"),
    [(2e9, 8e9, ""), (7.9e9, 8e9, "a step takes about 7.9 GB, and cuda:0 has 8.0 GB free")],
)
def test_a_card_that_is_too_small_is_said(tiny_scale, monkeypatch, peak, free, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 16e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    recipe = build("dino", tiny_scale).recipe
    said = memory.crowded(peak, torch.device("cuda", 0), recipe)
    assert said.startswith(expected)
    assert bool(said) == bool(expected)
    assert memory.crowded(1e15, CPU, recipe) == ""
    if said:
        for remedy in ("train.checkpoint_blocks=true", "train.accumulate=2", "--batch-size below 16"):
            assert remedy in said


CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which 1.21 GiB is "
    "free. Process 77 has 13.36 GiB memory in use. Of the allocated memory 12.00 GiB is allocated.\nmore"
)


def test_the_end_of_memory_is_one_line_with_remedies(sslkit, shapes_run, tiny_scale, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError(CUDA)

    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, "--device", "cpu", "--workers", 0]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_forward_backward", full)
        code, out, err = sslkit("pretrain", tmp_path / "run", *words)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "sslkit: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which 1.21 "
        "GiB is free: use --set train.checkpoint_blocks=true (the same numbers, a quarter slower), --set "
        "train.accumulate=2 (refused where a loss looks across the batch), or a --batch-size below 16"
    )
    # The first remedy needs no --force.
    code, out, err = sslkit("pretrain", tmp_path / "run", *words, "--set", "train.checkpoint_blocks=true", "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 10


def test_other_errors_stay_what_they_are(tiny_scale):
    recipe = build("dino", tiny_scale, "train.checkpoint_blocks=true").recipe
    with pytest.raises(RuntimeError, match="a shape"), memory.advised(recipe):
        raise RuntimeError("a shape is wrong")
    said = r"no more is free: use --set train.accumulate=2 .*, or a --batch-size below"
    with pytest.raises(SslkitError, match=said), memory.advised(recipe):
        raise MemoryError


def test_augmentations_that_go_image_by_image_do_not_count(tiny_scale, monkeypatch):
    """Small batches would run other operations than large ones, and could not tell what those hold."""
    seen = []
    monkeypatch.setattr("sslkit.training.estimate.peak_of", lambda _, small, *both: seen.extend(map(len, both)) or 1.0)
    crops = ["views.global.size=192", "views.local.count=0", "encoder.image_size=192", "monitor.gradient_steps=1"]
    foretold(build("attmask", tiny_scale, *crops), "fp32")
    assert seen[0] == seen[1] > 500
