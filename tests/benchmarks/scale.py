"""CPU time and memory of what grows with the dataset, at several sizes; needs no data.

python tests/benchmarks/scale.py --samples 100000 400000 1280000

The shards are hard links to one with 1,000 tiny images, each with an index of its own, and the features are random: so
only the number of samples is real, and everything that depends on it. Memory is anonymous: what the kernel cannot take
back, unlike mapped files. ``growth`` is the exponent between the two largest sizes: 1 is linear.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslkit.data.images import encode_png
from sslkit.data.loader import batches
from sslkit.data.order import Order
from sslkit.data.shard_index import index_path
from sslkit.data.shards import Record, open_split, shard_paths, write_shard
from sslkit.data.views import ViewMaker
from sslkit.files import write_json
from sslkit.probes.classify import knn as nearest
from sslkit.probes.classify import linear as probe
from sslkit.probes.classify.linear_sweep import LinearSettings
from sslkit.probes.features.extraction import extract_batches
from sslkit.probes.features.features import open_features
from sslkit.probes.features.resumable_arrays import PartialArrays
from sslkit.recipe.sections import ViewsSection
from stages.extract import _samples

PER_SHARD, WIDTH, CLASSES, QUERIES = 1000, 384, 100, 256
WORKERS, BATCHES = 2, 40  # of the loader
SUBJECTS = ("index", "order", "loader", "extract", "knn", "linear")
SCALE = {"global": {"count": 2, "size": 32, "scale": [0.4, 1.0]}}


def write_shards(folder: Path, samples: int) -> None:
    """``data/`` of a run: one shard as ``prepare`` writes it, under as many names as there are shards."""

    folder.mkdir(parents=True)
    first, *others = shard_paths(folder, "train", samples // PER_SHARD)
    pixels = np.random.default_rng(0).integers(0, 256, (PER_SHARD, 8, 8, 3), dtype=np.uint8)
    names = [f"n{i % CLASSES:08d}/n{i % CLASSES:08d}_{i}.JPEG" for i in range(PER_SHARD)]  # as in ImageNet
    infos = [json.dumps({"key": name}).encode() for name in names]
    members = [{"png": encode_png(each), "json": info} for each, info in zip(pixels, infos, strict=True)]
    write_shard(first, (Record(f"{i:08d}", i % CLASSES, each) for i, each in enumerate(members)), [])
    for path in others:
        os.link(first, path)
        shutil.copy(index_path(first), index_path(path))
    shards = [{"file": path.name} for path in (first, *others)]
    write_json(
        folder / "manifest.json",
        {"classes": [str(c) for c in range(CLASSES)], "splits": {"train": {"shards": shards}}},
    )


def write_features(folder: Path, samples: int) -> None:
    """``features/``: random rows, chunk by chunk."""
    noise = np.random.default_rng(0)
    for split, rows in (("train", samples), ("val", QUERIES)):
        (folder / split).mkdir(parents=True)
        array = np.lib.format.open_memmap(folder / split / "cls.npy", "w+", np.float32, (rows, WIDTH))
        for start in range(0, rows, PER_SHARD):
            array[start : start + PER_SHARD] = noise.random((min(PER_SHARD, rows - start), WIDTH), np.float32) - 0.5
        array.flush()
        np.save(folder / split / "labels.npy", noise.integers(0, CLASSES, rows))


def index(folder: Path) -> dict[str, float]:
    """Open the split, which every process of a stage does."""

    split = open_split(folder / "data", "train")
    split.image(len(split) - 1)
    return {"MB on disk": sum(path.stat().st_size for path in (folder / "data").glob("*.idx.npz")) / 1e6}


def order(folder: Path) -> dict[str, float]:
    """The first and the hundredth epoch's order."""

    found = Order(samples=PER_SHARD * len(list((folder / "data").glob("*.tar"))), batch_size=1000)
    for epoch in (0, 99):
        next(found.micro_batches(epoch * found.steps_per_epoch, 100 * found.steps_per_epoch))
    return {}


def loader(folder: Path) -> dict[str, float]:
    """From nothing to the first batch, and what worker processes own after some."""

    began = time.monotonic()
    split = open_split(folder / "data", "train")
    views = ViewMaker(ViewsSection.model_validate(SCALE), 32, 4, seed=0)
    stream = batches(split, views, Order(len(split), 64), 0, 10**6, WORKERS, pin=False)
    next(stream)
    first = time.monotonic() - began
    for _ in range(BATCHES):
        next(stream)
    owned = [private_megabytes(process.pid or 0) for process in multiprocessing.active_children()]
    return {"s to the first batch": first, "MB per worker": max(owned)}


def extract(folder: Path) -> dict[str, float]:
    """Everything but the encoder: decode, crop, write the rows and their names."""

    class Constant:
        image_size, channels, device = 8, 3, torch.device("cpu")

        def __call__(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"cls": torch.zeros(len(pixels), WIDTH)}

    split, out = open_split(folder / "data", "train"), folder / "out"
    arrays = PartialArrays({"cls": out / "cls.npy"}, {"cls": (WIDTH,)}, len(split), 64)
    extract_batches(split, Constant(), arrays, arrays.prepare("0" * 64))
    arrays.finish()
    with (out / "samples.jsonl").open("w") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in _samples(split))
    shutil.rmtree(out)
    return {}


def knn(folder: Path) -> dict[str, float]:
    """256 queries."""

    nearest.knn(*both(folder))
    return {}


def linear(folder: Path) -> dict[str, float]:
    """One epoch of one setting."""

    probe.linear(*both(folder), LinearSettings((0.1,), (0.0,), epochs=1))
    return {}


def both(folder: Path) -> list[Any]:
    """Features of train and val."""

    found = (folder / "features" / split for split in ("train", "val"))
    return [open_features([each / "cls.npy"], each / "labels.npy") for each in found]


def private_megabytes(process: int) -> float:
    """Memory that a process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


class Peak:
    """The largest anonymous memory of this process, looked at again and again, above what it was at first."""

    def __init__(self) -> None:
        self.first = self.most = self.now()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) / 1024

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, self.now())
            time.sleep(0.01)


def measure(subject: str, folder: Path) -> dict[str, float]:
    """CPU seconds and MB of a subject; imports do not count."""
    peak, began = Peak(), time.process_time()
    facts = globals()[subject](folder)
    return {"CPU s": time.process_time() - began, "MB": max(peak.most, peak.now()) - peak.first, **facts}


def main() -> None:
    """Measure each subject in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 400_000], help="ascending")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--folder", type=Path, help="of the synthetic files; default: temporary")
    parser.add_argument("--one", choices=SUBJECTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.folder)))
        return
    found: dict[str, dict[str, list[float]]] = {subject: {} for subject in arguments.subjects}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for samples in arguments.samples:
            folder = Path(name) / str(samples)
            write_shards(folder / "data", samples)
            if {"knn", "linear"} & {*arguments.subjects}:
                write_features(folder / "features", samples)
            for subject in arguments.subjects:
                words = [sys.executable, __file__, "--one", subject, "--folder", str(folder)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                for key, value in json.loads(done.stdout).items():
                    found[subject].setdefault(key, []).append(value)
            shutil.rmtree(folder)
    columns = [f"{n:>10,}" for n in arguments.samples]
    print(f"{'':8} {'':22} {' '.join(columns)}  growth")
    for subject, facts in found.items():
        for key, values in facts.items():
            print(f"{subject:8} {key:22} {' '.join(f'{v:10.2f}' for v in values)}  {growth(arguments.samples, values)}")


def growth(samples: list[int], values: list[float]) -> str:
    """The exponent between the two largest sizes; nothing where there is one size, or next to nothing to measure."""
    if len(samples) < 2 or min(values[-2:]) < 0.05:
        return "-"
    return f"{math.log(values[-1] / values[-2]) / math.log(samples[-1] / samples[-2]):.2f}"


if __name__ == "__main__":
    main()
