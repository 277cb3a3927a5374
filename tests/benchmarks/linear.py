"""The linear probe: 20 settings, 100 epochs, 50,000 x 384 features, 10 classes, from raw features to val,
against the matrix products of these steps alone.

python tests/benchmarks/linear.py
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import interleave, ratio, show, verdict

from sslkit.probes.classify.linear import linear
from sslkit.probes.classify.linear_sweep import LinearSettings
from sslkit.probes.features.features import open_features


def write(folder: Path, name: str, rows: int, width: int, classes: int) -> None:
    """Features of overlapping classes, so that there is something to learn."""
    (folder / name).mkdir(parents=True)
    noise = np.random.default_rng(rows)
    centres = np.random.default_rng(0).normal(size=(classes, width)) * 0.15
    labels = noise.integers(0, classes, rows)
    np.save(folder / name / "cls.npy", (centres[labels] + noise.normal(size=(rows, width))).astype(np.float32))
    np.save(folder / name / "labels.npy", labels)


def products(settings: LinearSettings, images: int, width: int, heads: int) -> None:
    """The two products of every step, forward and backward, for so many rows of weights."""
    rows, weight = torch.randn(settings.batch_size, width), torch.randn(heads, width)
    error = torch.randn(heads, settings.batch_size)
    for _ in range(settings.epochs * (images // settings.batch_size)):
        torch.nn.functional.linear(rows, weight)
        torch.mm(error, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    settings = LinearSettings(epochs=arguments.epochs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = []
        for split, rows in (("train", arguments.train), ("val", arguments.train // 5)):
            write(folder, split, rows, arguments.width, arguments.classes)
            splits.append(open_features([folder / split / "cls.npy"], folder / split / "labels.npy"))
        results = []
        heads, held_out = arguments.classes * len(settings.grid()), arguments.train // 10

        def alone() -> None:
            products(settings, arguments.train - held_out, arguments.width, heads)
            products(settings, arguments.train, arguments.width, arguments.classes)

        calls = {
            "sslkit linear": lambda: results.append(linear(splits[0], splits[1], settings)),
            "the products alone, torch": alone,
        }
        seconds = interleave(calls, arguments.rounds, warm_up=0)
    print(f"{len(settings.grid())} settings, {arguments.epochs} epochs, {arguments.train} x {arguments.width} features")
    show(seconds, arguments.train, "images")
    print(f"val top-1 {results[-1].top1:.1f} % with {results[-1].chosen}")
    verdict("products alone / sslkit", 1 / ratio(seconds, "sslkit linear", "the products alone, torch"), 0.55)
    verdict("seconds", min(seconds["sslkit linear"]), 40, at_least=False)


if __name__ == "__main__":
    main()
