"""Training steps at every scale against the matrix products in them: the limit that no other code would pass.

python tests/benchmarks/products.py

A product of large matrices is the machine's limit; those of a small ViT's shapes are slower, and the step's own limit.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from step import sslkit_step
from timing import interleave, ratio, wait
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from sslkit.device import DTYPES, pick_device, resolve_precision
from sslkit.recipe.schema import resolve
from sslkit.training import memory  # noqa: F401  makes torch count the FLOPs of fused attention on a CPU
from stages.inputs.recipes import find

VIT_T = ["encoder.arch=vit_tiny_patch16_224", "views.local.count=6", "heads.prototypes.out=1024"]
STEPS = {
    "AttMask, ViT-S/16, 2 x 224 + 6 x 96, batch 8": (["attmask", "imagenet-subset"], ["train.batch_size=8"]),
    "DINO, ViT-T/16, 2 x 224 + 6 x 96, batch 16": (["dino", "imagenet-subset"], [*VIT_T, "train.batch_size=16"]),
    "DINO, small32, patch 8, batch 64": (["dino", "small32"], ["encoder.patch_size=8", "encoder.depth=4"]),
    "DINO, small32, batch 64": (["dino", "small32"], []),
    "AttMask, demo, batch 64": (["attmask", "demo"], []),
}
LARGE = 2048  # rows and columns of the matrices that show the machine's limit


class Products(TorchDispatchMode):
    """Remembers the matrix products, attention and convolutions that run within it, with what they were given.

    Attributes:
        flops: of all, two for a multiply-add.
        calls: for each kind of product and shapes, how often it ran, and the call.
    """

    def __init__(self):
        super().__init__()
        self.flops = 0
        self.calls: dict[Any, tuple[int, Callable[[], object]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **kwargs, out_val=out)
            key = (
                func,
                *((x.shape, x.stride(), x.dtype) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)),
            )
            given = tree_map_only(Tensor, torch.clone, (args, kwargs))
            times, call = self.calls.get(key, (0, lambda: func(*given[0], **given[1])))
            self.calls[key] = times + 1, call
        return out

    def replay(self) -> None:
        """Run them all again, and nothing else."""
        for times, call in self.calls.values():
            for _ in range(times):
                call()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="steps whose name contains this")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    precision = resolve_precision(arguments.precision, device)
    x, weight = torch.randn(2, LARGE, LARGE, device=device, dtype=DTYPES.get(precision)).unbind()

    print(f"{precision} on {device}; share of the step: of its time that these products alone take, 1 is the limit")
    print(f"{'':45} GFLOP/s: step  its products  large ones | share of the step: its products  large ones")
    for name, (recipes, words) in STEPS.items():
        if arguments.only not in name:
            continue
        step, products = sslkit_step(resolve([find(r) for r in recipes], words), device, precision), Products()
        step()
        with products:
            step()
        calls = {"step": step, "products": products.replay, "large": lambda: F.linear(x, weight)}
        seconds = interleave({key: _waited(call, device) for key, call in calls.items()}, arguments.rounds, warm_up=0)
        own = 1 / ratio(seconds, "step", "products")
        speed = {key: products.flops / min(seconds[key]) / 1e9 for key in ("step", "products")}
        speed["large"] = 2 * LARGE**3 / min(seconds["large"]) / 1e9
        large = speed["step"] / speed["large"]
        print(
            f"{name:45} {speed['step']:13.0f} {speed['products']:13.0f} {speed['large']:11.0f} "
            f"| {own:32.2f} {large:11.2f}"
        )


def _waited(call: Callable[[], object], device: torch.device) -> Callable[[], None]:
    def run() -> None:
        call()
        wait(device)

    return run


if __name__ == "__main__":
    main()
