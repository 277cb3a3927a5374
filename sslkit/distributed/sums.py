"""Sums over all processes that carry gradients, and the statistics that batch-wide losses make of them.

Every process computes the same loss from such sums. Data parallelism then averages the gradients over the processes,
which gives exactly the gradient of one process with the whole batch. With one process all is local.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from sslkit.distributed.process_group import processes

EPSILON = 1e-5  # torch's BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over processes; it enters the loss of each, so its gradient is the sum of theirs.

    ``torch.distributed.nn.functional.all_reduce`` did this until torch deprecated it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _reduced(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _reduced(gradients[0])


def _reduced(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes; gradients flow back to all of them."""
    return x if processes() == 1 else _Sum.apply(x)


@torch.no_grad()
def log_sum_exp(x: Tensor) -> Tensor:
    """(..., B, K) -> (..., 1, K): log of the sum of exp over the B of all processes, without gradient; B may be 0."""
    lowest = x.new_full((*x.shape[:-2], 1, x.shape[-1]), torch.finfo(x.dtype).min)
    largest = x.amax(-2, keepdim=True) if x.shape[-2] else lowest
    if processes() > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest + summed((x - largest).exp().sum(-2, keepdim=True)).log()


def gathered(x: Tensor) -> Tensor:
    """(B, ...) of each process -> (W x B, ...), in the order of the processes; gradients flow back."""
    count = processes()
    if count == 1:
        return x
    # A sum of padded parts: its gradient is that of ``summed``, where all_gather has none.
    slots = x.new_zeros((count, *x.shape))
    mine = torch.arange(count, device=x.device).view(-1, *[1] * x.ndim) == dist.get_rank()
    return summed(torch.where(mine, x[None], slots)).flatten(0, 1)


def standardised(x: Tensor, real: int | None = None, epsilon: float = EPSILON) -> Tensor:
    """Mean 0 and variance 1 over the batch: BatchNorm (arXiv:1502.03167) without its affine part.

    Args:
        x: (..., B, D); every leading index (a view) has statistics of its own, over the B of all processes.
        real: only so many rows count, from the first on, another number in each process perhaps; None: all B, alike.
        epsilon: added to the biased variance.

    Returns:
        (..., B, D) float32.
    """
    x = x.float()
    size = x.shape[-2] * processes() if real is None else summed(x.new_full((), real)).clamp(min=1)
    mean = summed(x[..., :real, :].sum(-2, keepdim=True)) / size
    centred = x - mean
    variance = summed(centred[..., :real, :].square().sum(-2, keepdim=True)) / size
    return centred * torch.rsqrt(variance + epsilon)
