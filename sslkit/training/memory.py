"""The memory of a training step at its peak, from two small batches.

After every operation the bytes of all living tensors are counted. Both batches run the same operations, so what lives
after each of them is a constant plus so much for each image, and the peak of a batch of any size is known: it need not
be where the small batches have theirs.
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sslkit.data.batch import Batch
from sslkit.errors import SslkitError, is_out_of_memory
from sslkit.recipe.schema import Recipe

CROWDED = 0.9  # of the free memory: libraries need some, and some is lost in pieces that are too small
for _pass in ("", "_backward"):  # torch counts those of CUDA's fused attention, and none of the CPU's (2.14)
    _cuda, _cpu = (
        getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention{name}{_pass}") for name in ("", "_for_cpu")
    )
    flop_registry.setdefault(_cpu, flop_registry[_cuda])


class Accounts(TorchDispatchMode):
    """Counts FLOPs, and the bytes of living tensors after operations, in each forward pass from the first weight on.

    What comes before, the augmentations, is cut into other pieces for other batches, and never the peak. Torch's own
    counter of FLOPs would keep alive what is recomputed.

    Attributes:
        flops: so far, two for a multiply-add.
        history: bytes.
        waiting: for a weight; to be set at the start of each forward pass.
    """

    def __init__(self, weights: Iterable[Tensor], others: Iterable[Tensor]):
        super().__init__()
        self.flops, self.history = 0, list[int]()
        self.waiting = True
        self._alive = 0
        self._sizes: dict[int, weakref.ref] = {}
        weights = list(weights)
        self._weights = {_address(weight) for weight in weights}
        for tensor in (*weights, *others):
            self._see(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and look at what it is and what it returned."""
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        before = self._alive
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._see(each)
        if self._alive == before:
            return out  # it made nothing
        if self.waiting:
            inputs = (each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
            if not any(_address(each) in self._weights for each in inputs):
                return out
            self.waiting = False
        self.history.append(self._alive)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address not in self._sizes:
            self._alive += size

            def gone(_: object) -> None:
                del self._sizes[address]
                self._alive -= size

            self._sizes[address] = weakref.ref(storage, gone)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def peak_of(batch: int, small: int, once: Sequence[int], twice: Sequence[int]) -> float:
    """Bytes at the peak of a step of ``batch`` images.

    Args:
        batch: images.
        small: images of the first small batch; the second one has twice as many.
        once: the history of the first.
        twice: of the second.
    """
    if len(once) != len(twice):  # other operations: the best guess is that the peaks correspond
        once, twice = [max(once)], [max(twice)]
    return max(first + (second - first) * (batch / small - 1) for first, second in zip(once, twice, strict=True))


def doubled(batch: Batch) -> Batch:
    """Every image of the batch twice."""
    return replace(
        batch,
        samples=batch.samples.repeat(2),
        labels=batch.labels.repeat(2),
        crops=[crops.repeat(1, 2, 1, 1, 1) for crops in batch.crops],
        photometric=[draws.repeat(1, 2, 1) for draws in batch.photometric],
        objects=None if batch.objects is None else batch.objects.repeat(1, 2, 1, 1),
    )


def remedies(recipe: Recipe) -> str:
    """What needs less memory, in words, the cheapest first."""
    train, ways = recipe.train, []
    if not train.checkpoint_blocks:
        ways.append("--set train.checkpoint_blocks=true (the same numbers, a quarter slower)")
    ways.append(f"--set train.accumulate={2 * train.accumulate} (refused where a loss looks across the batch)")
    ways.append(f"a --batch-size below {train.batch_size}")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def free_memory(device: torch.device) -> int | None:
    """Bytes of a CUDA device that this process may use; None for other devices."""
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)  # what is reserved is its own


def crowded(peak: float, device: torch.device, recipe: Recipe) -> str:
    """What to do where a step of ``peak`` bytes exceeds what is free on a CUDA device; empty where it does not."""
    free = free_memory(device)
    if free is None or peak <= CROWDED * free:
        return ""
    return f"a step takes about {peak / 1e9:.1f} GB, and {device} has {free / 1e9:.1f} GB free: use {remedies(recipe)}"


@contextmanager
def advised(recipe: Recipe) -> Iterator[None]:
    """Turns the end of memory in training into one line.

    Raises:
        SslkitError: there was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # torch goes on with what else is in use, and with its allocator's settings.
        said = str(error).partition("\n")[0] or "no more is free"
        for more in (" Including non-PyTorch", " Process ", " Of the allocated"):
            said = said.partition(more)[0]
        raise SslkitError(f"{said.rstrip('. ')}: use {remedies(recipe)}") from error
