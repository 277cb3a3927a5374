"""Four processes train like one, and share what they extract."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from torch import Tensor

RECIPES = ("attmask", "simclr", "barlow-twins", "swav", "mae")
CPU = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]
QUIET = ["--set", "monitor.every_epochs=0"]


def sslkit(*words: object) -> int:
    """The command line in this process, and in the others of its group; returns the exit code."""
    from stages import cli

    sys.argv = ["sslkit", *map(str, words)]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    finally:
        ranks.next_group()
    return 0


def train(folder: Path, data: Path, scale: Path) -> None:
    """Ten steps of each recipe; the gradients of each step go to a file."""
    from sslkit.optimizers import base as optim

    honest = optim.clip_each
    for recipe in RECIPES:
        gradients: list[Tensor] = []

        def clip_each(parameters, clip, gradients=gradients):
            gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
            return honest(parameters, clip)

        optim.clip_each = clip_each
        words = ["--data", data, "--recipe", recipe, "--recipe", scale, *CPU, *QUIET]
        assert sslkit("pretrain", folder / recipe, *words) == 0
        torch.save(torch.stack(gradients), folder / f"{recipe}-{os.environ['RANK']}.pt")


@pytest.fixture(scope="module")
def trained(shapes_run, tiny_scale, tmp_path_factory) -> dict[int, Path]:
    """What one process and four have written."""
    made = {size: tmp_path_factory.mktemp(f"of-{size}") for size in (1, 4)}
    started = {size: ranks.start(train, size, folder, shapes_run, tiny_scale) for size, folder in made.items()}
    for size, processes in started.items():
        assert ranks.exit_codes(processes) == [0] * size, ranks.said(made[size], size)
    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_four_processes_have_the_losses_and_gradients_of_one(trained, recipe):
    one, four = (trained[size] / recipe / "pretrain" / "metrics.jsonl" for size in (1, 4))
    one, four = ([json.loads(line) for line in path.read_text().splitlines()] for path in (one, four))
    assert len(one) == len(four) == 10
    for a, b in zip(four, one, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5), a["step"]
    alone = torch.load(trained[1] / f"{recipe}-0.pt")
    assert alone.norm(dim=1).min() > 1e-3
    for rank in range(4):
        gradients = torch.load(trained[4] / f"{recipe}-{rank}.pt")
        assert ((gradients - alone).norm(dim=1) / alone.norm(dim=1)).max() < 2e-5


def test_nothing_but_the_progress_is_printed(trained):
    for text in ranks.said(trained[4], 4)[1:]:
        assert text == ""


def extract(folder: Path, weights: Path) -> None:
    assert sslkit("extract", folder / "run", "--data", weights, "--weights", weights, *CPU, "--batch-size", 30) == 0


def test_more_processes_than_batches_and_a_last_batch_that_is_smaller(trained_run, tmp_path):
    """80 images are 3 batches of 30, the last of 20, for five processes; 1,000 are 34, the last of 10."""
    for size in (1, 5):
        (tmp_path / str(size)).mkdir()
        assert ranks.exit_codes(ranks.start(extract, size, tmp_path / str(size), trained_run)) == [0] * size
    for split, images in (("train", 80), ("val", 1000)):
        for name in ("cls", "blocks", "patch_mean", "labels"):
            one, five = (np.load(tmp_path / size / "run/features" / split / f"{name}.npy") for size in "15")
            assert len(one) == images
            assert np.array_equal(one, five)


def extract_with_a_fault(folder: Path, weights: Path) -> None:
    """The second of two processes finds a damaged image, and the first notices that the connection ends.

    The watch's next look at the reports, which may come first and has another line (see ``test_watch``), is far away.
    """
    from sslkit.distributed import watch
    from sslkit.errors import SslkitError
    from sslkit.probes.features import extraction

    def fail(*_):
        raise SslkitError("image 7 is damaged")

    watch.INTERVAL = 100.0
    if os.environ["RANK"] == "1":
        extraction.CropBatches.__getitem__ = fail
    assert sslkit("extract", folder / "run", "--data", weights, "--weights", weights, *CPU) == 1


def test_a_fault_of_one_process_ends_the_other_with_a_line_that_names_it(trained_run, tmp_path):
    processes = ranks.start(extract_with_a_fault, 2, tmp_path, trained_run)
    name = f"process 1 (pid {processes[1].pid} on "
    assert ranks.exit_codes(processes) == [0, 0]
    first, second = (text.strip().splitlines()[-1] for text in ranks.said(tmp_path, 2))
    assert second == "sslkit: image 7 is damaged"
    assert first.startswith(f"sslkit: {name}")
    assert first.endswith("(image 7 is damaged); rerun the same command to resume")


def leave(folder: Path, data: Path, scale: Path) -> None:
    """The third process alone gets SLURM's warning, in its third step; later all go on."""
    from sslkit.optimizers import base as optim

    words = ["pretrain", folder / "run", "--data", data, "--recipe", "dino", "--recipe", scale, *CPU, *QUIET]
    honest, calls = optim.clip_each, []

    def clip_each(parameters, clip):
        calls.append(1)
        if len(calls) == 3 and os.environ["RANK"] == "2":
            os.kill(os.getpid(), signal.SIGUSR1)
        return honest(parameters, clip)

    optim.clip_each = clip_each
    assert sslkit(*words, "--set", "monitor.log_steps=2") == 128 + signal.SIGUSR1
    assert len(calls) == 4
    assert sslkit(*words, "--set", "monitor.log_steps=2") == 0
    words[1] = folder / "undisturbed"
    assert sslkit(*words, "--set", "monitor.log_steps=2") == 0


def test_a_signal_to_any_process_ends_all_of_them_after_a_checkpoint(shapes_run, tiny_scale, tmp_path):
    assert ranks.exit_codes(ranks.start(leave, 3 + 1, tmp_path, shapes_run, tiny_scale)) == [0] * 4
    first, *others = ranks.said(tmp_path, 4)
    assert "stopped at step 4 of 10; rerun the same command to resume" in first
    assert "resuming at step 4 of 10" in first
    assert all("Traceback" not in text for text in others)
    weights = [(tmp_path / run / "pretrain/encoder.safetensors").read_bytes() for run in ("run", "undisturbed")]
    assert weights[0] == weights[1]
