"""What only a CUDA device can show: right numbers there, no waiting for it, and the chain of stages on it.

Skipped where there is none; ``tests/benchmarks/gpu.sh`` runs them first.
"""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from tiny_methods import RECIPES, batch_of, begun, build

from sslkit.device import autocast
from sslkit.optimizers import base as optim
from sslkit.schedules import Moment

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    # Of torch about itself: its watch for waits is new, and some of its modules use the older compiler.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode", "ignore:.*torch.jit"),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_products():
    """Matrix products of float32 in float32, so that the CPU's numbers are the yardstick."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)
    torch.cuda.set_sync_debug_mode("default")


def ran(sslkit, *words):
    """Run a stage that must succeed."""
    code, _, err = sslkit(*words)
    assert code == 0, err


def one_step(method, optimizer, batch, step, precision="fp32"):
    """A step as the loop takes it; the loss and the norm of the gradients stay on the device."""
    at = Moment(step, 10, 10)
    optim.schedule(optimizer, method.recipe.optim, 256, at)
    with autocast(batch.crops[0].device, precision):
        losses = method(batch, at)
    losses.loss.backward()
    norm = optim.clip_each([p for p in method.parameters() if p.requires_grad], method.recipe.optim.clip)
    for parameter in method.frozen_parameters(at):
        parameter.grad = None
    optim.step_unless(optimizer, ~torch.isfinite(norm))
    optimizer.zero_grad(set_to_none=True)
    method.after_step(losses.statistics, at)
    return losses.loss.detach(), norm


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_of_a_recipe_equal_the_cpu_s(name, tiny_scale):
    method = begun(build(name, tiny_scale))
    values = []
    for device in (torch.device("cpu"), CUDA):
        # The same weights: a method that draws them differently on a device would be another test's fault.
        other = begun(build(name, tiny_scale, device=device))
        other.load_state_dict(copy.deepcopy(method.state_dict()))
        other.suit_device(device, "off", "fp32")
        optimizer = optim.build(other, other.recipe.optim, other.rate_factors())
        batch = batch_of(other).to(device)
        values.append([float(v) for step in (11, 12) for v in one_step(other, optimizer, batch, step)])
    np.testing.assert_allclose(values[1], values[0], rtol=2e-3, err_msg="loss and gradient norm of two steps")


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_never_waits_for_the_device(name, tiny_scale):
    method = begun(build(name, tiny_scale, device=CUDA))
    method.suit_device(CUDA, "off", "bf16")
    optimizer = optim.build(method, method.recipe.optim, method.rate_factors())
    host = batch_of(method).pin_memory()
    # The first step makes constants, and the optimizer's state.
    one_step(method, optimizer, host.to(CUDA), 11, "bf16")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    loss, _ = one_step(method, optimizer, host.to(CUDA), 12, "bf16")
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("name", ["attmask", "mae"])
def test_compiled_blocks_compute_the_same(name, tiny_scale):
    losses = []
    for compiles in ("off", "on"):
        method = begun(build(name, tiny_scale, "encoder.drop_path=0", device=CUDA))
        method.suit_device(CUDA, compiles, "fp32")
        optimizer = optim.build(method, method.recipe.optim, method.rate_factors())
        batch = batch_of(method).to(CUDA)
        losses.append([float(v) for step in (11, 12) for v in one_step(method, optimizer, batch, step)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_chain_runs_and_resumes_on_a_card(sslkit, shapes_run, tiny_scale, tmp_path, precision):
    words = ["--recipe", "attmask", "--recipe", tiny_scale, "--device", "cuda", "--precision", precision]
    # The scale of fp16's loss needs some steps to find its level.
    words += ["--epochs", 8, "--workers", 2, "--set", "train.compile=off", "--set", "train.checkpoint_minutes=0.0001"]
    run = tmp_path / "run"
    ran(sslkit, "pretrain", run, "--data", shapes_run, *words)
    rows = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    # fp16 can skip all the steps between two rows, until the scale has found its level: such a row has no loss.
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses
    assert np.isfinite(losses).all()
    ran(sslkit, "extract", run, "--device", "cuda", "--precision", precision)
    ran(sslkit, "knn", run)
    ran(sslkit, "linear", run, "--device", "cuda")
    ran(sslkit, "occlusion", run, "--device", "cuda")


def test_features_of_a_card_equal_the_cpu_s(sslkit, trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = np.load(run / "features" / "val" / "cls.npy")
    ran(sslkit, "extract", run, "--device", "cuda", "--precision", "fp32", "--force")
    after = np.load(run / "features" / "val" / "cls.npy")
    np.testing.assert_allclose(after, before, atol=2e-3 * np.abs(before).max())


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize(
    "words",
    [
        ["attn-viz", "--rollout"],
        ["finetune", "--epochs", 4],
        ["linear", "--augment", "--epochs", 2],
        ["health"],
    ],
    ids=lambda words: words[0],
)
def test_stages_that_open_an_encoder_run_on_a_card(sslkit, trained_run, tmp_path, words):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    name, *options = words
    ran(sslkit, name, run, "--device", "cuda", *options)
