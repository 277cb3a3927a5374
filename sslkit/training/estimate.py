"""What a run would cost, from a small batch's forward and backward pass."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sslkit.data.batch import Batch
from sslkit.data.order import Order
from sslkit.device import Precision, autocast, described
from sslkit.methods.base import Method
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment


def estimate(method: Method, batch: Batch, recipe: Recipe, order: Order, precision: Precision) -> dict[str, Any]:
    """Parameters, FLOPs, steps and memory of a run; nothing is trained.

    FLOPs count a multiply-add as two and a backward pass as twice its forward. Memory is weights, gradients and
    two moments, as AdamW has them, and what autograd keeps of one micro-batch, measured on the batch.
    """
    device, images = batch.crops[0].device, len(batch.samples)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    models = (method, *method.frozen_modules())
    weights = {p.untyped_storage().data_ptr() for module in models for p in module.parameters()}
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        with autocast(device, precision):
            loss = method(batch, Moment(0, order.steps_per_epoch, recipe.train.epochs)).loss
        forward = counter.get_total_flops()
        loss.backward()
    total = counter.get_total_flops()
    method.zero_grad(set_to_none=True)
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    every = sum(p.numel() for module in models for p in module.parameters())
    activations = sum(size for pointer, size in kept.items() if pointer not in weights) / images
    micro = order.batch_size // (order.accumulate * order.world)
    encoder, _ = method.exported()
    return {
        "method": recipe.method.name,
        "encoder": recipe.encoder.arch,
        "encoder parameters": sum(p.numel() for p in encoder.parameters()),
        "trained parameters": trained,
        "GFLOPs per image, forward": round(forward / images / 1e9, 2),
        "GFLOPs per image, training": round(total / images / 1e9, 2),
        "images": order.samples,
        "steps per epoch": order.steps_per_epoch,
        "steps": Moment(0, order.steps_per_epoch, recipe.train.epochs).total,
        "batch per process and micro": micro,
        "memory of weights, MB": round((4 * every + 12 * trained) / 1e6),
        "memory of activations, MB": round(activations * micro / 1e6),
        "device": described(device, precision),
        "precision": precision,
    }
