"""The training stage: the same bytes whatever happens, progress that can be read, mistakes that are said."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import processes
import pytest
import ranks
import timm
import torch
from conftest import unsealed
from processes import succeed
from safetensors.torch import load_file

from stages.contract.layout import Run

QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]


@pytest.fixture
def train(shapes_run, tiny_scale):
    """Words of a short AttMask training on the prepared images, without the run."""
    return lambda *more: ["--data", shapes_run, "--recipe", "attmask", "--recipe", tiny_scale, *QUICK, *more]


@pytest.fixture(scope="module")
def undisturbed(shapes_run, tiny_scale, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    words = ["--data", shapes_run, "--recipe", "attmask", "--recipe", tiny_scale, *QUICK]
    succeed("pretrain", run, *words)
    return run


def weights(run: Path) -> bytes:
    return (run / "pretrain" / "encoder.safetensors").read_bytes()


def rows(run: Path) -> list[dict]:
    """Log lines without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "data_wait")} for row in lines]


def test_what_is_written(undisturbed, tiny_scale):
    folder = undisturbed / "pretrain"
    expected = {"recipe.yaml", "metrics.jsonl", "checkpoint.pt", "encoder.safetensors", "encoder.json", "views.png"}
    assert {p.name for p in folder.iterdir()} == {*expected, "stage.json"}
    record = json.loads((folder / "stage.json").read_text())
    assert record["status"] == "done"
    assert record["config"]["train"]["precision"] == "fp32"
    assert record["how"]["recipes"] == ["attmask", str(tiny_scale)]
    log = rows(undisturbed)
    assert [row["step"] for row in log] == list(range(1, 11))
    assert {"loss", "lr", "dino/teacher_entropy", "dino/kl", "dino/ln_k", "ibot/loss", "feature_std"} <= set(log[0])
    assert "knn" in log[4]
    assert "knn" in log[9]
    assert "knn" not in log[0]


def test_plain_timm_loads_the_encoder_back(undisturbed):
    info = json.loads((undisturbed / "pretrain" / "encoder.json").read_text())
    model = timm.create_model(info["arch"], **info["timm_kwargs"])
    model.load_state_dict(load_file(undisturbed / "pretrain" / "encoder.safetensors"), strict=True)
    assert info["branch"] == "teacher"
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 24)


def test_the_written_branch_is_the_teacher_of_the_checkpoint(undisturbed):
    state = torch.load(undisturbed / "pretrain" / "checkpoint.pt", weights_only=True)
    written = load_file(undisturbed / "pretrain" / "encoder.safetensors")
    key = "blocks.0.mlp.fc1.weight"
    assert torch.equal(written[key], state["method"][f"teacher.encoder.model.{key}"])
    assert not torch.equal(written[key], state["method"][f"student.encoder.model.{key}"])


def test_encoders_are_kept_over_the_training_from_the_first_to_the_last(undisturbed, train, sslkit, tmp_path):
    run = Run(tmp_path / "run")
    assert sslkit("pretrain", run.path, *train("--keep-every", "1"))[0] == 0
    kept = run.kept_encoders()
    epochs = json.loads((run.pretrain / "stage.json").read_text())["results"]["epochs"]
    assert [epoch for epoch, _ in kept] == [float(n) for n in range(int(epochs) + 1)]
    # Keeping changes nothing, and what is kept last is what is written in the end.
    assert weights(run.path) == weights(undisturbed)
    assert kept[-1][1].read_bytes() == weights(run.path)
    assert load_file(kept[0][1]).keys() == load_file(run.encoder).keys()
    assert kept[0][1].read_bytes() != kept[-1][1].read_bytes()


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_no_byte(undisturbed, train, sslkit, tmp_path, workers):
    code, _, _ = sslkit("pretrain", tmp_path / "run", *train("--workers", workers))
    assert code == 0
    assert weights(tmp_path / "run") == weights(undisturbed)
    assert rows(tmp_path / "run") == rows(undisturbed)


def test_again_is_up_to_date_and_other_settings_are_refused(undisturbed, train, sslkit):
    before = weights(undisturbed)
    code, out, err = sslkit("pretrain", undisturbed, *train())
    assert code == 0
    assert err == "up to date\n"
    assert "encoder.safetensors" in out
    code, _, err = sslkit("pretrain", undisturbed, *train("--lr", "0.1"))
    assert code == 1
    assert "optim.lr was 0.0005, now 0.1" in err
    assert "--force" in err
    assert weights(undisturbed) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle_and_started_again_gives_the_same_bytes(undisturbed, train, sslkit, tmp_path, number):
    run = tmp_path / "run"
    # Every step is kept and logged, so that there is a middle to be killed in.
    more = ["--set", "train.checkpoint_minutes=1e-9"]
    process = processes.sslkit_until(3, partial(signal.raise_signal, number), "pretrain", run, *train(*more))
    _, err = process.communicate()
    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + number
        assert "rerun the same command to resume" in err.splitlines()[-1]
        assert json.loads((run / "pretrain" / "stage.json").read_text())["status"] == "interrupted"
    assert not (run / "pretrain" / "encoder.safetensors").exists()
    code, _, err = sslkit("pretrain", run, *train(*more))
    assert code == 0
    assert f"resuming at step {2 if number == signal.SIGKILL else 3} of 10" in err
    assert weights(run) == weights(undisturbed)
    assert rows(run) == rows(undisturbed)


def test_ctrl_c_in_a_terminal_reaches_the_workers_and_still_keeps_the_step(undisturbed, train, sslkit, tmp_path):
    run = tmp_path / "run"
    words = train("--workers", "2", "--epochs", "40", "--set", "monitor.every_epochs=0")
    to_all = partial(os.killpg, 0, signal.SIGINT)
    process = processes.sslkit_until(3, to_all, "pretrain", run, *words, new_session=True)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert (run / "pretrain" / "checkpoint.pt").exists()


def test_accumulation_gives_the_same_training(undisturbed, train, sslkit, tmp_path):
    code, _, _ = sslkit("pretrain", tmp_path / "run", *train("--set", "train.accumulate=2"))
    assert code == 0
    for a, b in zip(rows(tmp_path / "run"), rows(undisturbed), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def in_two(folder: Path, words: list[str]) -> None:
    """One of two processes that train."""
    from stages import cli

    sys.argv = ["sslkit", "pretrain", str(folder / "run"), *words]
    cli.main()


KILLED_ONCE = """
import os, signal, sys
sys.path[:] = {path}
import processes, ranks
from sslkit.training.loop import Trainer
from stages import cli
ranks.take_one_thread()
if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
    Trainer._log = processes.log_and_act(3, lambda: os.kill(os.getpid(), signal.SIGKILL))
cli.main()
"""


def test_two_processes_of_which_one_is_killed_end_like_two_that_are_not(undisturbed, train, tmp_path):
    words = [str(word) for word in train("--set", "train.checkpoint_minutes=1e-9")]
    (tmp_path / "two").mkdir()
    alike = ranks.start(in_two, 2, tmp_path / "two", words)
    codes = ranks.exit_codes(alike)
    said = ranks.said(tmp_path / "two", 2)
    assert codes == [0, 0], said
    assert [text.count("attmask, tiny on shapes: 80 images, 2 epochs, 10 steps") for text in said] == [1, 0]

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = tmp_path / "killed_once.py"
    script.write_text(KILLED_ONCE.format(path=sys.path))
    launched = [*launcher, "--max-restarts", "2", script, "pretrain", tmp_path / "run", *words]
    ended = subprocess.run(launched, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "resuming at step" in ended.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "two" / "run")
    two, one = rows(tmp_path / "run"), rows(undisturbed)
    assert two == rows(tmp_path / "two" / "run")
    assert len(two) == len(one) == 10
    for a, b in zip(two, one, strict=True):
        for key in ("loss", "dino/loss", "ibot/loss", "dino/center_norm", "gradient_norm"):
            assert a[key] == pytest.approx(b[key], rel=1e-4), (a["step"], key)
    # Where the leading process refuses, the other does not wait for it.
    refused = ranks.start(in_two, 2, tmp_path / "two", [*words, "--lr", "0.1"])
    assert ranks.exit_codes(refused) == [1, 0]
    assert "optim.lr was 0.0005, now 0.1" in ranks.said(tmp_path / "two", 2)[0]


def test_dry_run_says_what_would_run_and_writes_nothing(train, sslkit, tmp_path):
    code, out, _ = sslkit("pretrain", tmp_path / "run", *train("--dry-run", "--json"))
    plan = json.loads(out)
    assert code == 0
    assert plan["steps"] == 10
    assert plan["encoder parameters"] > 10_000
    assert plan["GFLOPs per image, training"] > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "mask.rato=0.1"], 2, "unknown key 'mask.rato' in the recipe: did you mean 'mask.ratio'?"),
        (["--set", "encoder.patch_size=5"], 2, "patch size 5 does not divide image size 32"),
        (["--batch-size", "999"], 2, "exceeds the 80 training images"),
        (["--recipe", "attmusk"], 2, "did you mean 'attmask"),
        (["--arch", "vit_tinny_patch16_224"], 2, "did you mean 'vit_tiny_patch16_224'"),
        (["--set", "optim.warmup_epochs=50"], 2, "exceeds the run of 2"),
        (["--epochs", "0.01"], 2, "0.01 epochs of 5 steps are not one step: raise --epochs"),
        (["--lr", "1e30", "--epochs", "6"], 1, "steps in a row gave a loss that is not finite"),
    ],
)
def test_mistakes_end_in_one_line(train, sslkit, tmp_path, words, code, message):
    got, out, err = sslkit("pretrain", tmp_path / "run", *train(*words))
    assert (got, out) == (code, "")
    last = err.strip().splitlines()[-1]
    assert message in last
    assert last.startswith("sslkit: ")


def test_a_recipe_that_could_not_begin_is_not_in_the_way_of_the_next(sslkit, tiny_scale, tmp_path):
    run = tmp_path / "run"
    assert sslkit("prepare", run, "--source", "digits", "--per-class", 8, "--workers", 0)[0] == 0
    words = ["--recipe", tiny_scale, *QUICK]
    code, _, err = sslkit("pretrain", run, "--recipe", "attmask", *words, "--set", "mask.strategy=oracle")
    assert code != 0
    assert "mask" in err.splitlines()[-1]
    assert " on digits" not in err
    assert not (run / "pretrain").exists()
    code, _, err = sslkit("pretrain", run, "--recipe", "dino", *words)
    assert code == 0, err
    assert err.startswith("dino, tiny on digits: 80 images, 2 epochs, 10 steps\n"), err


def test_a_missing_stage_is_named(tiny_scale, sslkit, tmp_path):
    (tmp_path / "run").mkdir()
    code, _, err = sslkit("pretrain", tmp_path / "run", "--recipe", "dino", "--recipe", tiny_scale)
    assert code == 1
    assert f"run `sslkit prepare {tmp_path / 'run'} --source ...` first" in err


def test_a_damaged_checkpoint_is_one_line(undisturbed, train, sslkit, tmp_path):
    run = tmp_path / "run"
    (run / "pretrain").mkdir(parents=True)
    record = unsealed(undisturbed / "pretrain" / "stage.json") | {"status": "interrupted"}
    for was in record["inputs"].values():
        was["path"] = str((undisturbed / was["path"]).resolve())
    (run / "pretrain" / "stage.json").write_text(json.dumps(record))
    (run / "pretrain" / "checkpoint.pt").write_bytes(b"PK not a checkpoint")
    code, _, err = sslkit("pretrain", run, *train())
    assert code == 1
    assert "checkpoint.pt is damaged: it cannot be read" in err
    assert "--force" in err


def test_a_step_that_is_not_finite_is_skipped_and_its_samples_kept(train, sslkit, tmp_path, monkeypatch):
    from sslkit.objectives import dino

    calls, honest = [], dino.loss

    def sometimes_nan(*arguments):
        calls.append(1)
        value = honest(*arguments)
        return value * float("nan") if len(calls) == 5 else value

    monkeypatch.setattr(dino, "loss", sometimes_nan)
    code, _, _ = sslkit("pretrain", tmp_path / "run", *train("--set", "monitor.gradient_steps=0"))
    log = rows(tmp_path / "run")
    skipped = [row for row in log if "skipped" in row]
    assert code == 0
    assert [row["step"] for row in skipped] == [5]
    assert len(skipped[0]["samples"]) == 16
    assert all(
        torch.isfinite(v).all() for v in load_file(tmp_path / "run" / "pretrain" / "encoder.safetensors").values()
    )
    assert all(row["loss"] == row["loss"] for row in log if row["step"] > 5 and "loss" in row)


@pytest.mark.parametrize(
    ("momentum", "remark"),
    [
        ("[1, 1]", " of 1 throughout: the teacher, whose encoder is written, stays as it starts"),
        ("[10%, 1]", ": 10% of 10 steps is no more than one, so the teacher copies the student at the start"),
        ("[0.9, 3%]", ": 3% of 10 steps is no more than one, so the teacher copies the student at the end"),
        ("[0%, 3%]", ": 0% of 10 steps is no more than one, so the teacher copies the student throughout"),
        ("[20%, 20%]", ""),
        ("[0, 0]", ""),  # which was asked for
    ],
)
def test_a_teacher_that_does_not_average_is_said(momentum, remark, train, sslkit, tmp_path):
    _, _, err = sslkit("pretrain", tmp_path / "run", *train("--dry-run", "--set", f"teacher.momentum={momentum}"))
    assert [line for line in err.splitlines() if "momentum" in line] == (
        [f"teacher.momentum{remark}"] if remark else []
    )


def test_a_missing_scale_is_said(train, shapes_run, sslkit, tmp_path):
    _, _, err = sslkit("pretrain", tmp_path / "run", *train("--dry-run"))
    assert "a scale for such images" not in err
    words = ["--data", shapes_run, "--recipe", "rotation", "--arch", "resnet18", "--batch-size", 8, "--dry-run"]
    _, _, err = sslkit("pretrain", tmp_path / "run", *words, "--device", "cpu")
    assert "views of 224 pixels are made of images of at most 64" in err
    assert "--recipe small64" in err
