"""``pretrain --teacher``: what a student may learn from, what is said, and that resuming gives the same bytes."""

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import processes
import pytest
import torch

from stages.contract.layout import Run

QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]


@pytest.fixture
def words(shapes_run, tiny_scale):
    """Words of a short training run without the run's name."""

    def made(*more: object, recipe: str = "distill") -> list[object]:
        return ["--data", shapes_run, "--recipe", recipe, "--recipe", tiny_scale, *QUICK, *more]

    return made


def last_line(err: str) -> str:
    return err.strip().splitlines()[-1]


def test_a_student_learns_from_a_run_of_another_size(trained_run, words, sslkit, tmp_path):
    run = Run(tmp_path / "run")
    sizes = ["--set", "encoder.width=48", "--set", "encoder.patch_size=4", "--set", "encoder.depth=1"]
    code, _, err = sslkit("pretrain", run.path, *words("--teacher", trained_run, *sizes))
    assert code == 0, err
    line = next(line for line in err.splitlines() if line.startswith("teacher:"))
    assert "vit_tiny_patch16_224, width 24, at 32 px; encoder.safetensors, read as" in line
    record = json.loads((run.pretrain / "stage.json").read_text())
    assert record["inputs"]["teacher"]["path"].endswith("pretrain/encoder.safetensors")
    found = json.loads(run.encoder_info.read_text())["distilled_from"]
    assert found["sha256"] == record["inputs"]["teacher"]["sha256"]
    assert found["width"] == 24
    assert f"teacher: {trained_run}" in run.recipe.read_text()
    state = torch.load(run.checkpoint, weights_only=True)["method"]
    moments = {"seen", "cls_moments", "patches_moments"}
    assert {key.split(".")[0] for key in state} == {"student", "projections"} | moments
    assert state["projections.patches.0.weight"].shape == (24, 48)
    # What it was called is not what it was: another path to the same bytes changes nothing, other bytes do.
    shutil.copytree(trained_run, tmp_path / "moved")
    code, _, err = sslkit("pretrain", run.path, *words("--teacher", tmp_path / "moved", *sizes))
    assert "up to date" in err
    code, _, err = sslkit("pretrain", run.path, *words("--teacher", run_with_other_bytes(tmp_path / "moved"), *sizes))
    assert code == 1
    assert "the input teacher changed" in err


def run_with_other_bytes(path: Path) -> Path:
    from safetensors.torch import load_file, save_file

    weights = Run(path).encoder
    tensors = load_file(weights)
    tensors["norm.bias"] = tensors["norm.bias"] + 1
    save_file(tensors, weights)
    (Run(path).pretrain / "stage.json").unlink()  # it would call the new bytes damage
    return path


def test_killed_and_started_again_gives_the_same_bytes(trained_run, words, sslkit, tmp_path):
    more = words("--teacher", trained_run, "--set", "train.checkpoint_minutes=1e-9")
    processes.succeed("pretrain", tmp_path / "whole", *more)
    run = tmp_path / "run"
    kill = partial(signal.raise_signal, signal.SIGKILL)
    processes.sslkit_until(3, kill, "pretrain", run, *more).communicate()
    assert not Run(run).encoder.exists()
    code, _, err = sslkit("pretrain", run, *more)
    assert code == 0
    assert "resuming at step" in err
    for name in ("encoder.safetensors", "encoder.json", "recipe.yaml"):
        ours, theirs = (path / "pretrain" / name for path in (run, tmp_path / "whole"))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_timms_cnn_teaches_its_pooled_feature(words, sslkit, tmp_path, monkeypatch):
    import timm

    build = timm.create_model

    def create(name, pretrained=False, **options):
        torch.manual_seed(0)
        return build(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    run = Run(tmp_path / "run")
    more = ["--teacher", "timm:resnet10t", "--set", "method.teacher_size=32", "--epochs", 1]
    code, _, err = sslkit("pretrain", run.path, *words(*more))
    assert code == 0, err
    assert "teacher resnet10t has no patch tokens: its pooled feature is matched" in err
    config = json.loads((run.pretrain / "stage.json").read_text())["config"]["method"]["teacher"]
    found = json.loads(run.encoder_info.read_text())["distilled_from"]
    assert config == {"name": "timm:resnet10t", "sha256": found["sha256"]}
    assert found["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "distill needs a teacher: --teacher FILE, RUN or timm:NAME"),
        (["--teacher", "absent.pth"], "no checkpoint at absent.pth: --teacher takes a FILE, a RUN or timm:NAME"),
        (["--teacher", "timm:vit_tinny_patch16_224"], "did you mean 'vit_tiny_patch16_224'"),
        (["--teacher", "bare.pt"], "for a teacher that is --set method.teacher_arch=NAME"),
        (["--teacher", "bare.pt", "--set", "method.teacher_arch=vit_tiny_patch16_224"], "another architecture"),
        (["--teacher", "RUN", "--set", "method.teacher_size=30"], "does not divide image size 30"),
        (["--teacher", "OWN"], "is this run's own: train a new run from it"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_data_is_read(
    words, trained_run, sslkit, tmp_path, monkeypatch, more, message
):
    from sslkit.data import shards

    monkeypatch.chdir(tmp_path)
    torch.save(
        {"patch_embed.proj.weight": torch.zeros(20, 3, 8, 8), "blocks.0.norm1.weight": torch.ones(20)}, "bare.pt"
    )
    if more:  # without a teacher nothing is opened that could refuse
        monkeypatch.setattr(shards, "open_split", lambda *_: pytest.fail("data was read"))
    given = {"RUN": trained_run, "OWN": tmp_path / "run"}
    code, _, err = sslkit("pretrain", tmp_path / "run", *words(*(given.get(word, word) for word in more)))
    assert code in (1, 2)
    assert message in last_line(err)
    assert not (tmp_path / "run").exists()


def test_a_teacher_goes_with_a_method_that_has_one(trained_run, words, sslkit, tmp_path):
    code, _, err = sslkit("pretrain", tmp_path / "run", *words("--teacher", trained_run, recipe="dino"))
    assert code == 2
    assert "--teacher goes with a method that has a frozen one: --recipe distill" in last_line(err)


def test_preview_and_dry_run_take_a_teacher(trained_run, words, sslkit, tmp_path):
    more = [word for word in words("--teacher", trained_run) if word not in ("--precision", "fp32", "--workers", "0")]
    assert sslkit("preview", tmp_path / "run", *more)[0] == 0
    code, out, _ = sslkit("pretrain", tmp_path / "run", *words("--teacher", trained_run, "--dry-run", "--json"))
    assert code == 0
    assert json.loads(out)["method"] == "distill"
