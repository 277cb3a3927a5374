"""A small prepared dataset and the command line, for the tests that run stages."""

import gc
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browser_fixture import browser  # noqa: F401  offered to every test
from hypothesis import HealthCheck, settings
from processes import log_and_act, succeed

from stages.contract.integrity import CHECK, RECORD
from stages.contract.layout import Run
from stages.contract.perform import nothing, perform
from stages.contract.stage import stages

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
FIXTURES = Path(__file__).parent / "fixtures"

# Two test processes on two cores: more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# In CI the examples are the same each time; at a desk they are new ones. A busy machine fails no test by being slow.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("desk", patient)
settings.register_profile("ci", patient, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_collection_finish() -> None:
    """Leave what imports have made to itself: a search for garbage would look at all of it, every time."""
    gc.freeze()


TINY = """
encoder: {arch: vit_tiny_patch16_224, image_size: 32, patch_size: 8, width: 24, depth: 2, heads: 3, drop_path: 0.1}
views:
  global: {size: 32, scale: [0.4, 1.0]}
  local?: {count: 2, size: 16, scale: [0.1, 0.4]}
heads?:
  prototypes?: {out: 32, hidden: 32, bottleneck: 16, frozen: 1%}
  patch_prototypes?: {out: 32, hidden: 32, bottleneck: 16, frozen: 1%}
  projector?: {out: 24, hidden: 32}
method?:
  decoder?: {width: 24, depth: 1, heads: 3}
  predictor?: {width: 24, depth: 1, heads: 3}
  last_blocks?: 1
optim: {warmup_epochs: 10%}
train: {epochs: 2, batch_size: 16}
monitor: {every_epochs: 1, queries: 8, bank: 24, log_steps: 1}
"""


@pytest.fixture(scope="session")
def tiny_scale(tmp_path_factory) -> Path:
    """A scale recipe whose steps take milliseconds."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def shapes_run(tmp_path_factory) -> Path:
    """A run with 80 + 40 prepared `shapes` images; tests use it by --data."""
    run = tmp_path_factory.mktemp("shapes") / "run"
    succeed("prepare", run, "--source", "shapes", "--per-class", 8, "--workers", 0)
    return run


@pytest.fixture(scope="session")
def trained_run(shapes_run, tiny_scale, tmp_path_factory) -> Path:
    """A run on `shapes_run` with a tiny AttMask encoder, one kept each epoch, features, and k-NN; copy it to write."""
    run = tmp_path_factory.mktemp("trained") / "run"
    words = ["--recipe", "attmask", "--recipe", tiny_scale, "--keep-every", 1, "--workers", 0, "--precision", "fp32"]
    succeed("pretrain", run, "--data", shapes_run, *words, "--device", "cpu")
    succeed("extract", run, "--workers", 0, "--precision", "fp32", "--device", "cpu")
    succeed("knn", run)
    return run


def command(*words: object) -> list[str]:
    """An sslkit command line for a process that is started anew; see ``processes`` for a quicker one."""
    return [sys.executable, "-m", "stages.cli", *map(str, words)]


def unsealed(path: Path) -> dict:
    """The ``stage.json`` of a test that changes it: without the SHA-256 of itself."""
    record = json.loads(path.read_text())
    record.pop(CHECK, None)
    return record


def digest(path: Path) -> str:
    """SHA-256 of a file; unlike ``sslkit.files.sha256`` it believes nothing that was remembered."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(folder: Path) -> dict[str, str]:
    """Every file but the records, which hold times: what tables say, and the hash of what nobody can read."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {
        str(path.relative_to(folder)): path.read_text() if path.suffix in (".json", ".jsonl") else digest(path)
        for path in files
    }


def do(run: Run, stage: str, work: Callable[[Path], dict], check: Callable[[], object] = nothing, **options) -> dict:
    """Perform a stage, or a variant such as "linear:augment", by the contract."""
    name, _, variant = stage.partition(":")
    options = {"config": {}, "inputs": {}, **options}
    return perform(run, stages()[name], variant=variant, prepare=check, work=lambda folder, _: work(folder), **options)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, which is closed again (``np.load`` leaves that to the garbage collector)."""
    with np.load(path) as arrays:
        return dict(arrays)


def write_features(run: Path, train: tuple, val: tuple) -> Path:
    """Features of another program: (N, D) and labels (N,) of both splits, nothing else."""
    for name, (features, labels) in {"train": train, "val": val}.items():
        folder = run / "features" / name
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "cls.npy", features)
        np.save(folder / "labels.npy", labels)
    return run


@pytest.fixture
def stops_at(monkeypatch):
    """A context in which training gets SIGTERM in a step that it logs."""

    @contextmanager
    def stop(step: int) -> Iterator[None]:
        from sslkit.training.loop import Trainer

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_log", log_and_act(step, partial(signal.raise_signal, signal.SIGTERM)))
            yield

    return stop


@pytest.fixture
def sslkit(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: words -> (exit code, standard output, standard error)."""

    def call(*words: object) -> tuple[int, str, str]:
        from stages import cli

        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["sslkit", *map(str, words)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        code = ended.value.code
        return code if isinstance(code, int) else 0, *capsys.readouterr()

    return call
