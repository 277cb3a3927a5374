"""`sslkit --help` in seconds, and the memory of prepare and extract as images grow tenfold.

python tests/benchmarks/cli.py
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from timing import verdict

SSLKIT = [sys.executable, "-c", "from stages.cli import main; main()"]


def help_seconds(times: int) -> float:
    """Median seconds of `sslkit --help`, interpreter start included."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([*SSLKIT, "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of 48 px in two classes of train and val."""
    noise = np.random.default_rng(0)
    for split, share in (("train", 0.9), ("val", 0.1)):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            for number in range(int(count * share / 2)):
                pixels = noise.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number:06d}.jpg")


def peak_megabytes(run: Path, stage: str, *words: str) -> int:
    """Peak memory of a stage's process, as its stage.json records it."""
    subprocess.run([*SSLKIT, stage, str(run), *words], check=True, capture_output=True)
    folder = {"prepare": "data", "extract": "features"}[stage]
    return json.loads((run / folder / "stage.json").read_text())["peak_memory_mb"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--help-times", type=int, default=15)
    parser.add_argument("--images", type=int, default=500, help="of the smaller dataset; the larger has ten times")
    arguments = parser.parse_args()
    verdict("sslkit --help, median seconds", help_seconds(arguments.help_times), 0.25, at_least=False)
    encoder = ["--weights", "random", "--arch", "vit_tiny_patch16_224", "--image-size", "32"]
    peaks: dict[str, list[int]] = {"prepare": [], "extract": []}
    with tempfile.TemporaryDirectory() as name:
        for count in (arguments.images, 10 * arguments.images):
            photos, run = Path(name) / f"photos{count}", Path(name) / f"run{count}"
            write_photos(photos, count)
            peaks["prepare"].append(
                peak_megabytes(run, "prepare", "--source", "folder", "--root", str(photos), "--workers", "0")
            )
            peaks["extract"].append(peak_megabytes(run, "extract", *encoder, "--workers", "0", "--device", "cpu"))
    for stage, (few, many) in peaks.items():
        print(f"{stage}: {few} MB for {arguments.images} images, {many} MB for {10 * arguments.images}")
        verdict(f"{stage}, growth of memory", many / few, 1.1, at_least=False)


if __name__ == "__main__":
    main()
