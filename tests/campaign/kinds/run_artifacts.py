"""A run's own files, damaged, through the commands that read them or make them again."""

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from campaign.damage import damage_file, damage_value, odd_file
from campaign.kind import Damage, Kind
from campaign.kinds.images import picture

RECIPE = """
encoder: {arch: vit_tiny_patch16_224, image_size: 16, patch_size: 8, width: 12, depth: 1, heads: 2, drop_path: 0.0}
views: {global: {size: 16, scale: [0.4, 1.0]}}
heads?:
  projector?: {out: 8, hidden: 8}
optim: {warmup_epochs: 10%}
train: {epochs: 2, batch_size: 8}
monitor: {every_epochs: 1, queries: 4, bank: 8, log_steps: 1}
"""
QUICK = "--workers 0 --precision fp32 --device cpu"
PREPARE = "prepare run/d --source input/photos --workers 0 --val-fraction 0.3"
PRETRAIN = f"pretrain run/a --data run/d --recipe barlow-twins --recipe input/tiny.yaml --keep-every 1 {QUICK}"
EXTRACT, KNN, LINEAR = f"extract run/a {QUICK}", "knn run/a --k 3", "linear run/a --epochs 2 --lr 0.1 --weight-decay 0"
OCCLUSION = "occlusion run/a --device cpu --precision fp32 --shares 0.5 --draws 1"
STATUS, VERIFY, COMPARE = "status run/a", "status run/a --verify", "compare run/a run/b"
MORE = f"pretrain run/c --data run/d --weights run/a --recipe barlow-twins --recipe input/tiny.yaml {QUICK}"
CHAIN = (PREPARE, PRETRAIN, EXTRACT, KNN, LINEAR)
READERS = {
    "d/data/manifest.json": [PREPARE, STATUS, f"{EXTRACT} --force", PRETRAIN],
    "d/data/stage.json": [PREPARE, STATUS, f"{EXTRACT} --force"],
    "d/data/skipped.jsonl": [PREPARE, STATUS],
    "d/data/train-000000.idx.npz": [PREPARE, f"{EXTRACT} --force", PRETRAIN],
    "d/data/train-000000.tar": [PREPARE, f"{EXTRACT} --force", VERIFY],
    "a/data/reference.json": [STATUS, f"{EXTRACT} --force", f"{KNN} --force"],
    "a/pretrain/stage.json": [PRETRAIN, STATUS, f"{EXTRACT} --force", COMPARE],
    "a/pretrain/recipe.yaml": [PRETRAIN, STATUS, COMPARE],
    "a/pretrain/encoder.json": [PRETRAIN, f"{EXTRACT} --force", STATUS],
    "a/pretrain/encoder.safetensors": [PRETRAIN, f"{EXTRACT} --force", STATUS],
    "a/pretrain/checkpoint.pt": [PRETRAIN, MORE],
    "a/pretrain/metrics.jsonl": [PRETRAIN, COMPARE, STATUS],
    "a/pretrain/views.png": [PRETRAIN],
    "a/features/stage.json": [EXTRACT, f"{KNN} --force", STATUS, COMPARE],
    "a/features/features.json": [EXTRACT, f"{KNN} --force", f"{LINEAR} --force", STATUS],
    "a/features/val/cls.npy": [EXTRACT, f"{KNN} --force", f"{LINEAR} --force"],
    "a/features/train/labels.npy": [EXTRACT, f"{KNN} --force", f"{LINEAR} --force"],
    "a/features/val/samples.jsonl": [EXTRACT, f"{KNN} --force"],
    "a/knn/stage.json": [KNN, STATUS, COMPARE],
    "a/knn/results.json": [KNN, COMPARE],
    "a/knn/predictions.npz": [KNN, COMPARE],
    "a/linear/stage.json": [LINEAR, STATUS, COMPARE],
    "a/linear/results.json": [LINEAR, OCCLUSION],
    "a/linear/head.safetensors": [LINEAR, OCCLUSION],
}
# Their bytes depend on the clock.
TIMED = {"stage.json", "metrics.jsonl"}
IMPORTED = (
    *("torch", "timm", "faiss", "stages.cli", "sslkit.training.loop", "sslkit.probes.features.extraction"),
    *("sslkit.weights.read", "sslkit.weights.start", "sslkit.data.loader", "sslkit.methods.joint_embedding"),
    *("sslkit.objectives.barlow_twins", "sslkit.probes.classify.linear", "sslkit.probes.classify.knn"),
    *("sslkit.plots.views", "sslkit.training.monitor", "sslkit.data.prepare.packing", "sslkit.recipe.schema"),
)


def in_a_child(work: Callable[[], object]) -> None:
    """Call something in a forked process: what has trained must not fork."""
    stream = os.dup(2)
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(stream, f"{error!r}\n".encode())
            os._exit(1)
    os.close(stream)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the undamaged run of the campaign cannot be made")


def sslkit(words: str) -> int:
    """Run one command in this process; its exit code."""
    from stages import cli

    sys.argv = ["sslkit", *words.split()]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def write_inputs(folder: Path) -> None:
    """Photos of two classes, and a recipe whose steps take a millisecond."""
    for number in range(24):
        path = folder / "input" / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, "png"))
    (folder / "input" / "tiny.yaml").write_text(RECIPE)


def chained(folder: Path, commands: tuple[str, ...]) -> None:
    """Run commands in a folder, silently; all must succeed."""
    os.chdir(folder)
    sink = os.open(folder / "made.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(sink, 1), os.dup2(sink, 2)
    failed = [words for words in commands if sslkit(words)]
    if failed:
        raise SystemExit((folder / "made.txt").read_text())
    (folder / "made.txt").unlink()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by path of every file of the runs whose bytes are a matter of the inputs alone."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in TIMED]
    kept = [path for path in paths if not path.name.startswith(".") and not path.is_symlink()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


class RunArtifacts(Kind):
    """JSON, arrays, weights and shards of a finished run; its files are made again with equal bytes, or not at all."""

    weight = 0.5

    def build(self, folder: Path) -> None:
        """A run with features and probes, and a copy to compare it with."""
        for name in IMPORTED:
            importlib.import_module(name)
        write_inputs(folder)
        copy = " ".join(("run/b", *PRETRAIN.split()[2:]))
        again = (f"pretrain {copy}", EXTRACT.replace("run/a", "run/b"), KNN.replace("run/a", "run/b"))
        in_a_child(lambda: chained(folder, (*CHAIN, *again)))
        (folder / "input" / "original.json").write_text(json.dumps(digests(folder / "run")))
        (folder / "input" / "command.json").write_text(json.dumps([*CHAIN, STATUS, COMPARE]))

    def warm_up(self, folder: Path, sslkit: Callable[[list[str]], int]) -> None:
        """Only import: the commands train."""
        for name in IMPORTED:
            importlib.import_module(name)

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Bytes of a file, a value in its JSON, or something else in its place."""
        name = draw.choice([*READERS])
        path = folder / "run" / name
        way = draw.choice(("bytes", "bytes", "value", "value", "gone", "odd"))
        if way == "value" and path.suffix == ".json":
            value, words = damage_value(json.loads(path.read_text()), draw)
            path.write_text(json.dumps(value))
        elif way == "gone":
            path.unlink()
            words = "gone"
        elif way == "odd":
            words = odd_file(path, draw)
        else:
            words = damage_file(path, draw)
        command = draw.choice(READERS[name])
        (folder / "input" / "command.json").write_text(json.dumps([command]))
        (folder / "input" / "before.json").write_text(json.dumps(digests(folder / "run")))
        return Damage(f"{name}: {words}; {command}")

    def commands(self, folder: Path) -> list[list[str]]:
        """One that reads the damaged file; of the undamaged run all."""
        return [words.split() for words in json.loads((folder / "input" / "command.json").read_text())]

    def result(self, folder: Path) -> Any:
        """Files that the command made, and that are not those of the undamaged run."""
        original = json.loads((folder / "input" / "original.json").read_text())
        before = folder / "input" / "before.json"
        damaged = json.loads(before.read_text()) if before.exists() else {}
        found = {name: digest for name, digest in digests(folder / "run").items() if name in original}
        return {name: d for name, d in found.items() if d not in (original[name], damaged.get(name))}
