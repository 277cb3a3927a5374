"""CPU seconds of short commands over what they need at least, and the memory of prepare and extract as data grow.

python tests/benchmarks/cli.py
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from timing import verdict
from tqdm import tqdm

SSLKIT = [sys.executable, "-c", "from stages.cli import main; main()"]
BARE = """
from typing import Annotated
import typer

def make():
    def command(
        run: str,
        count: Annotated[int, typer.Option("--count", help="A number.")] = 1,
        name: Annotated[str, typer.Option("--name", help="A word.")] = "a",
        force: Annotated[bool, typer.Option("--force", help="A flag.")] = False,
    ) -> None:
        "One line."
    return command

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
for number in range(20):
    app.command(f"command-{number}")(make())
app()
"""
TINY = ["--recipe", "simsiam", "--recipe", "small32", "--set", "encoder.depth=1", "--epochs", "1", "--batch-size", "16"]


def cpu_seconds(command: list[str], code: int = 0) -> float:
    """User and system time of a process that must end with a code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code, done.stderr
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def over(least: list[str], commands: dict[str, tuple[list[str], int]], rounds: int, limit: float) -> None:
    """How many times the CPU seconds of ``least`` each command takes: the median over rounds, which run all of them."""
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    for _ in tqdm(range(rounds), leave=False):
        unavoidable = cpu_seconds(least)
        for name, (command, code) in commands.items():
            ratios[name].append(cpu_seconds(command, code) / unavoidable)
    for name, values in ratios.items():
        verdict(f"{name}, CPU seconds", statistics.median(values), limit, at_least=False)


def short_commands(folder: Path, rounds: int) -> None:
    """`--help` over a bare Typer app of 20 commands with three options, and what reads a recipe over `import torch`."""
    bare = [sys.executable, "-c", BARE, "--help"]
    over(bare, {"sslkit --help over a bare Typer app": ([*SSLKIT, "--help"], 0)}, 3 * rounds, 1.3)
    run, shown = str(folder / "run"), [*SSLKIT, "recipes", "show", "attmask", "small32"]
    train = [*SSLKIT, "pretrain", run, *TINY, "--workers", "0", "--device", "cpu"]
    cpu_seconds([*SSLKIT, "prepare", run, "--source", "shapes", "--per-class", "4", "--workers", "0"])
    cpu_seconds(train)
    commands = {
        "recipes show": (shown, 0),
        "a mistyped section": ([*shown, "--set", "trian.epochs=1"], 2),
        "a mistyped key of an objective": ([*shown, "--set", "objectives.dino.wieght=1"], 2),
        "a finished pretrain": (train, 0),
    }
    over(
        [sys.executable, "-c", "import torch"],
        {f"{name} over `import torch`": each for name, each in commands.items()},
        rounds,
        1.15,
    )


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


def memory(folder: Path, images: int) -> None:
    """Peaks of prepare and extract for a dataset and for one of ten times its images."""
    encoder = ["--weights", "random", "--arch", "vit_tiny_patch16_224", "--image-size", "32"]
    peaks: dict[str, list[int]] = {"prepare": [], "extract": []}
    for count in (images, 10 * images):
        photos, run = folder / f"photos{count}", folder / f"run{count}"
        write_photos(photos, count)
        source = ["--source", "folder", "--root", str(photos)]
        peaks["prepare"].append(peak_megabytes(run, "prepare", *source, "--workers", "0"))
        peaks["extract"].append(peak_megabytes(run, "extract", *encoder, "--workers", "0", "--device", "cpu"))
    for stage, (few, many) in peaks.items():
        print(f"{stage}: {few} MB for {images} images, {many} MB for {10 * images}")
        verdict(f"{stage}, growth of memory", many / few, 1.1, at_least=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=300, help="of the smaller dataset; the larger has ten times")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        short_commands(Path(name), arguments.rounds)
        memory(Path(name), arguments.images)


if __name__ == "__main__":
    main()
