"""What a run would cost, from the forward and backward passes of two small batches."""

from dataclasses import dataclass
from typing import Any

import torch

from sslkit.data.batch import Batch
from sslkit.data.order import Order
from sslkit.device import Precision, autocast, described
from sslkit.methods.base import Method
from sslkit.optimizers.base import Optimizer
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment
from sslkit.training import gradients
from sslkit.training.loss_scale import LossScale
from sslkit.training.memory import Accounts, doubled, peak_of


def estimate(method: Method, batch: Batch, recipe: Recipe, order: Order, precision: Precision) -> dict[str, Any]:
    """Parameters, FLOPs, steps and memory of a run; nothing is trained.

    FLOPs count a multiply-add as two; the backward pass is counted as it runs. Memory is what tensors hold at the peak
    of a step, of one micro-batch: weights, the optimizer's moments, gradients and activations. It leaves out what
    libraries and the device's own allocator need, and what ``torch.compile`` saves.
    """
    device, images = batch.crops[0].device, len(batch.samples)
    start = Moment(0, order.steps_per_epoch, recipe.train.epochs)
    method.suit_device(device, "off", precision)
    once, twice = (_step(method, each, recipe, start, precision) for each in (batch, doubled(batch)))
    micro = order.batch_size // (order.accumulate * order.world)

    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    every = sum(p.numel() for module in (method, *method.frozen_modules()) for p in module.parameters())
    assert isinstance(recipe.optim, Optimizer)
    moments = 4 * trained * recipe.optim.moments
    buckets = 4 * trained if order.world > 1 else 0  # in which processes exchange gradients
    peak = peak_of(micro, images, once.history, twice.history) + moments + buckets
    weights = 4 * every + 4 * trained + moments
    encoder, _ = method.exported()
    return {
        "method": recipe.method.name,
        "encoder": recipe.encoder.arch,
        "encoder parameters": sum(p.numel() for p in encoder.parameters()),
        "trained parameters": trained,
        "GFLOPs per image, forward": round(once.forward / images / 1e9, 2),
        "GFLOPs per image, training": round(once.flops / images / 1e9, 2),
        "images": order.samples,
        "steps per epoch": order.steps_per_epoch,
        "steps": Moment(0, order.steps_per_epoch, recipe.train.epochs).total,
        "batch per process and micro": micro,
        "memory at the peak, MB": round(peak / 1e6, 1),
        "memory of weights, MB": round(weights / 1e6, 1),
        "memory of activations, MB": round(max(0, peak - weights) / 1e6, 1),
        "device": described(device, precision),
        "precision": precision,
    }


@dataclass(frozen=True)
class _Step:
    """A step of one micro-batch."""

    forward: int  # FLOPs of the forward pass
    flops: int  # of both passes
    history: list[int]  # bytes that lived, from operation to operation


def _step(method: Method, batch: Batch, recipe: Recipe, at: Moment, precision: Precision) -> _Step:
    """What the loop does with a micro-batch, measuring each objective's gradient included, but no optimizer step."""
    device, modules = batch.crops[0].device, (method, *method.frozen_modules())
    weights = [p for module in modules for p in module.parameters()]
    others = [*batch.crops, *(buffer for module in modules for buffer in module.buffers())]
    if recipe.train.accumulate > 1:  # there are gradients of earlier micro-batches
        for parameter in (p for p in weights if p.requires_grad):
            parameter.grad = torch.zeros_like(parameter)
            others.append(parameter.grad)
    accounts = Accounts(weights, others)
    # Each objective's gradient takes another forward pass, which augments the images again.
    begins = method.register_forward_pre_hook(lambda *_: setattr(accounts, "waiting", True))
    with accounts:
        with autocast(device, precision):
            result = method(batch, at)
        forward = accounts.flops
        result.loss.backward()
        both, names = accounts.flops, list(result.terms)
        del result
        if recipe.monitor.gradient_steps and len(names) > 1:
            gradients.by_term(method, names, batch, at, device, precision, LossScale(device, precision))
    begins.remove()
    method.zero_grad(set_to_none=True)
    return _Step(forward, both, accounts.history)
