"""Training steps of ViT-S/16 on a card: compile, precision, the share of its peak, memory, and whether data keep up.

python tests/benchmarks/gpu.py --out runs/gpu
Every row is kept in OUT/steps.json once it is measured; the same command goes on with the others.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from data import generated
from step import Noise, stepper
from timing import wait

from sslkit import registry
from sslkit.data.batch import Batch
from sslkit.data.loader import ViewBatches, batches
from sslkit.data.order import Order
from sslkit.data.shards import Record, open_split, write_shard
from sslkit.data.views import ViewMaker
from sslkit.device import pick_device, resolve_precision
from sslkit.files import write_json
from sslkit.recipe.schema import Recipe, resolve
from sslkit.training.estimate import estimate
from sslkit.workers import worker_count
from stages.inputs.recipes import find

ROWS = [
    ("attmask", "bf16", "off"),
    ("attmask", "bf16", "on"),
    ("dino", "bf16", "off"),
    ("dino", "bf16", "on"),
    ("attmask", "fp16", "off"),
    ("attmask", "fp32", "off"),
]
PHOTOS = 64  # different ones, repeated: their decoding costs the same


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--arch", default="vit_small_patch16_224")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="timed steps of a row")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", type=int, default=len(ROWS), help="only the first so many")
    arguments = parser.parse_args()
    device, kept = pick_device(arguments.device), arguments.out / "steps.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = json.loads(kept.read_text()) if kept.exists() else {}
    peak = table.setdefault("bf16 products, TFLOP/s", round(products(device), 2))
    for name, precision, compiles in ROWS[: arguments.rows]:
        key = f"{name}, {precision}, compile {compiles}"
        if key not in table:
            table[key] = row(name, precision, compiles, arguments, device)
            write_json(kept, table)
    print(f"{arguments.arch}, 2 x 224 + 6 x 96, batch {arguments.batch_size}; bf16 products {peak} TFLOP/s")
    columns = ["images/s", "TFLOP/s", "MFU", "first step, s", "waiting for data", "peak GB", "estimated GB"]
    print(f"{'':28}" + "".join(f"{column:>18}" for column in columns))
    for key, values in table.items():
        if isinstance(values, dict):
            values["MFU"] = values["TFLOP/s"] / peak
            print(f"{key:28}" + "".join(f"{values[column]:18.3g}" for column in columns))


def products(device: torch.device) -> float:
    """TFLOP/s of large bf16 matrix products: what a step is measured against."""
    size, repeats = (8192, 20) if device.type == "cuda" else (1024, 5)
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    seconds = timed(lambda: a @ b, repeats, device)
    return 2 * size**3 / seconds / 1e12


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds of a call, from the second half of as many more as are timed."""
    for _ in range(repeats):
        call()
    wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    wait(device)
    return (time.perf_counter() - began) / repeats


def row(
    name: str, precision: str, compiles: str, arguments: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """One recipe's measurements."""
    words = [f"train.batch_size={arguments.batch_size}", f"encoder.arch={arguments.arch}"]
    words += [f"train.precision={precision}", f"train.compile={compiles}"]
    recipe = resolve([find(name), find("imagenet-subset")], words)
    resolve_precision(precision, device)  # fp32's products are TF32, as in a run
    torch.manual_seed(0)
    method = registry.load("sslkit.methods", recipe.method.name)(recipe).to(device)
    # Like the loop's, batches come from page-locked memory; the same one each time, and then from the loader.
    views, images = ViewMaker(recipe.views, recipe.encoder.image_size, 16, seed=0), Noise(arguments.batch_size)
    batch = ViewBatches(images, views)[0, np.arange(len(images))]
    order = Order(samples=100_000, batch_size=arguments.batch_size)
    small = ViewBatches(images, views)[0, np.arange(2)].to(device)
    costs = estimate(method, small, recipe, order, precision)
    method.suit_device(device, recipe.train.compile, precision)
    step = stepper(method, recipe, precision, device)
    began = time.perf_counter()
    step(batch.to(device))
    wait(device)
    first = time.perf_counter() - began
    if device.type == "cuda":
        batch = batch.pin_memory()
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: step(batch.to(device)), arguments.steps, device)
    with_data = fed(step, recipe, views, arguments, device)
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    flops = costs["GFLOPs per image, training"] * 1e9
    return {
        "images/s": arguments.batch_size / seconds,
        "TFLOP/s": flops * arguments.batch_size / seconds / 1e12,
        "first step, s": first,
        "waiting for data": max(0.0, 1 - seconds / with_data),
        "peak GB": memory,
        "estimated GB": costs["memory at the peak, MB"] / 1e3,
    }


def fed(
    step: Callable[[Batch], None],
    recipe: Recipe,
    views: ViewMaker,
    arguments: argparse.Namespace,
    device: torch.device,
) -> float:
    """Seconds of a step whose photos are decoded and cut by as many workers as a run would have."""
    count = arguments.batch_size * (2 * arguments.steps + 1)
    jpegs = [generated(number) for number in range(PHOTOS)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = (Record(f"{i:06d}", 0, {"jpg": jpegs[i % PHOTOS]}) for i in range(count))
        write_shard(folder / "train.tar", records, [])
        shards = {"train": {"shards": [{"file": "train.tar"}]}}
        write_json(folder / "manifest.json", {"classes": ["photo"], "splits": shards})
        order = Order(samples=count, batch_size=recipe.train.batch_size)
        split, workers = open_split(folder, "train"), worker_count("auto", device)
        made = batches(split, views, order, 0, 2 * arguments.steps, workers, device.type == "cuda")
        return timed(lambda: step(next(made).to(device)), arguments.steps, device)


if __name__ == "__main__":
    main()
