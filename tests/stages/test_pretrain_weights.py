"""``pretrain --weights``: what a run starts from, what is said about it, and that resuming gives the same bytes."""

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import processes
import pytest
import torch
from safetensors.torch import load_file

from stages.contract.layout import Run

QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]


@pytest.fixture
def words(shapes_run, tiny_scale):
    """Words of a short training run without the run's name."""

    def made(recipe: str, *more: object) -> list[object]:
        return ["--data", shapes_run, "--recipe", recipe, "--recipe", tiny_scale, *QUICK, *more]

    return made


def encoder(run: Path) -> bytes:
    return Run(run).encoder.read_bytes()


def started_from(run: Path) -> dict:
    return json.loads(Run(run).encoder_info.read_text())["started_from"]


def test_a_run_continues_in_a_new_one_with_its_heads(trained_run, words, sslkit, tmp_path):
    run = Run(tmp_path / "run")
    code, _, err = sslkit("pretrain", run.path, *words("attmask", "--weights", trained_run, "--keep-every", 1))
    assert code == 0
    assert run.kept_encoders()[0][1].read_bytes() == encoder(trained_run)
    line = next(line for line in err.splitlines() if line.startswith("starts from"))
    assert "read as sslkit's training checkpoint: 30 keys used" in line
    assert "also taken: heads.prototypes (8), mask_token (1), objectives.dino (1), objectives.ibot (1)" in line
    record = json.loads((run.pretrain / "stage.json").read_text())
    assert record["inputs"]["weights"]["path"].endswith("pretrain/checkpoint.pt")
    found = started_from(run.path)
    assert found["sha256"] == record["inputs"]["weights"]["sha256"]
    assert found["left"] == []
    assert found["fresh"] == []


def test_another_method_takes_the_encoder_and_says_what_it_left(trained_run, words, sslkit, tmp_path):
    run = Run(tmp_path / "run")
    assert sslkit("pretrain", run.path, *words("mae", "--weights", trained_run, "--keep-every", 1))[0] == 0
    assert run.kept_encoders()[0][1].read_bytes() == encoder(trained_run)
    assert started_from(run.path)["fresh"] == ["decoder"]
    assert any(line.startswith("heads.prototypes: 8 tensors") for line in started_from(run.path)["left"])


def test_the_refusal_says_how_to_train_on(trained_run, words, sslkit, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    code, _, err = sslkit("pretrain", tmp_path / "run", *words("attmask", "--keep-every", 1, "--epochs", 4))
    assert code == 1
    assert "train.epochs was 2.0, now 4.0" in err
    assert f"sslkit pretrain NEW_RUN --data {tmp_path / 'run'} --weights {tmp_path / 'run'}" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again_gives_the_same_bytes(trained_run, words, sslkit, tmp_path, number):
    more = ["--weights", trained_run, "--set", "train.checkpoint_minutes=1e-9", "--set", "optim.layer_decay=0.7"]
    more += ["--set", "encoder.freeze=1"]
    processes.succeed("pretrain", tmp_path / "whole", *words("attmask", *more))
    run = tmp_path / "run"
    kill = partial(signal.raise_signal, number)
    processes.sslkit_until(3, kill, "pretrain", run, *words("attmask", *more)).communicate()
    assert not Run(run).encoder.exists()
    code, _, err = sslkit("pretrain", run, *words("attmask", *more))
    assert code == 0
    assert "resuming at step" in err
    assert encoder(run) == encoder(tmp_path / "whole")
    assert Run(run).encoder_info.read_bytes() == Run(tmp_path / "whole").encoder_info.read_bytes()
    # What is frozen is still that of the weights, and the rest is not.
    start, end = load_file(Run(trained_run).encoder), load_file(Run(run).encoder)
    for key, value in end.items():
        frozen = not key.startswith(("blocks.1.", "norm."))
        assert torch.equal(value, start[key]) == frozen, key


def test_the_architecture_comes_from_the_run_where_the_recipe_leaves_it_open(trained_run, words, sslkit, tmp_path):
    run = Run(tmp_path / "run")
    code, _, err = sslkit("pretrain", run.path, *words("dino", "--set", "encoder=null", "--weights", trained_run))
    assert code == 0, err
    theirs = json.loads(Run(trained_run).encoder_info.read_text())["timm_kwargs"]
    assert json.loads(run.encoder_info.read_text())["timm_kwargs"] == theirs


def test_weights_that_do_not_fit_are_refused_before_data_is_read(trained_run, words, sslkit, tmp_path, monkeypatch):
    from sslkit.data import shards

    monkeypatch.setattr(shards, "open_split", lambda *_: pytest.fail("data was read"))
    more = ["--set", "encoder.width=48", "--weights", trained_run]
    code, _, err = sslkit("pretrain", tmp_path / "run", *words("dino", *more))
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert "another architecture" in last
    assert "the recipe sets encoder.arch, encoder.depth" in last
    assert "--set encoder=null takes the file's own" in last
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("absent.pth", "no checkpoint at absent.pth: --weights takes a FILE, a RUN or timm:NAME"),
        ("EMPTY", "is no run with a trained encoder, and holds none of model.safetensors"),
        ("OWN", "is this run's own: train a new run from it"),
        ("timm:vit_tinny_patch16_224", "did you mean 'vit_tiny_patch16_224'"),
    ],
)
def test_weights_that_are_not_there_are_one_line(words, sslkit, tmp_path, given, message):
    (tmp_path / "empty").mkdir()
    given = {"EMPTY": tmp_path / "empty", "OWN": tmp_path / "run"}.get(given, given)
    code, _, err = sslkit("pretrain", tmp_path / "run", *words("dino", "--weights", given))
    assert code != 0
    assert message in err.strip().splitlines()[-1]


def test_timms_weights_are_fetched_by_name(words, sslkit, tmp_path, monkeypatch):
    import timm

    build = timm.create_model

    def create(name, pretrained=False, **options):
        model = build(name, pretrained=False, **options)
        if pretrained:
            for parameter in model.parameters():
                parameter.data.fill_(0.125)
        return model

    monkeypatch.setattr(timm, "create_model", create)
    run = Run(tmp_path / "run")
    more = ["--set", "encoder.width=null", "--set", "encoder.depth=null", "--set", "encoder.heads=null"]
    more += ["--weights", "timm:vit_tiny_patch16_224.augreg_in21k", "--keep-every", 1, "--epochs", 1]
    code, _, err = sslkit("pretrain", run.path, *words("dino", *more))
    assert code == 0, err
    assert "positions resampled from 14x14 to 4x4" in err
    assert load_file(run.kept_encoders()[0][1])["norm.weight"].unique().tolist() == [0.125]
    config = json.loads((run.pretrain / "stage.json").read_text())["config"]["weights"]
    assert config["name"] == "timm:vit_tiny_patch16_224.augreg_in21k"
    assert config["sha256"] == started_from(run.path)["sha256"]


def test_extract_reads_another_run_by_its_name(trained_run, shapes_run, sslkit, tmp_path):
    code, _, err = sslkit("extract", tmp_path / "run", "--data", shapes_run, "--weights", trained_run, *QUICK)
    assert code == 0, err
    ours, theirs = Run(tmp_path / "run"), Run(trained_run)
    assert ours.feature("val", "cls").read_bytes() == theirs.feature("val", "cls").read_bytes()
