"""Gradients averaged over all processes, added up in the same order from the first step to the last."""

from inspect import signature
from typing import Any

from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class _OrNothing(nn.Module):
    """A module that, called without arguments, gives 0 times all that it trains."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs) if inputs else 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)


def averaging_gradients(module: nn.Module) -> nn.Module:
    """The module, in a ``DistributedDataParallel`` where there are several processes; buffers stay each process's.

    After its first backward pass it rearranges the buckets in which it sends gradients, and sums of more than two
    numbers depend on the place in a bucket. So a resumed run would differ from an undisturbed one in the last bit of
    its first step. Here that first backward pass is one without content, before any step.
    """
    if not dist.is_initialized():
        return module
    # Newer torch has another name for it, and warns of the old one.
    known = signature(DistributedDataParallel.__init__).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    buffers: dict[str, Any] = {name: False}
    parallel = DistributedDataParallel(_OrNothing(module), **buffers)
    parallel().backward()
    module.zero_grad(set_to_none=True)
    return parallel
