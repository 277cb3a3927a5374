"""``sslkit occlusion``: what it writes, which encoder it takes, and mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from processes import succeed

from sslkit.data.shards import Split, open_split
from sslkit.errors import UsageError
from sslkit.probes.inspect.occlusion import balanced_rows
from stages.contract.layout import Run
from stages.contract.stale import changed_inputs
from stages.occlusion import parse_shares


@pytest.mark.parametrize("text", ["", "a", "0,1", "-0.1,0.5", "nan", "50"])
def test_shares_are_numbers_below_1(text):
    with pytest.raises(UsageError, match="--shares"):
        parse_shares(text)


@pytest.fixture(scope="module")
def evaluated(trained_run, shapes_run, tmp_path_factory) -> Path:
    """A copy of the trained run with a linear probe; do not write to it."""
    path = tmp_path_factory.mktemp("occlusion") / "run"
    shutil.copytree(trained_run, path)
    succeed("linear", path, "--data", shapes_run, "--epochs", 10, "--device", "cpu")
    return path


@pytest.fixture
def run(evaluated, tmp_path) -> Run:
    return Run(Path(shutil.copytree(evaluated, tmp_path / "run")))


COMMON = ("--device", "cpu", "--precision", "fp32", "--draws", 2, "--count", 40)
SOME = ("--shares", "0.25,0.75")


def test_intact_images_are_classified_as_by_the_linear_probe(run, shapes_run, sslkit):
    code, out, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON[:-1], 5000, "--shares", 0, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results["images"] == len(np.load(run.feature("val", "labels")))
    assert results["intact_top1"] == results["linear_top1"] == json.loads(run.results("linear").read_text())["top1"]


def test_the_stage_writes_curves_and_a_picture_and_is_up_to_date(run, shapes_run, sslkit):
    words = ("occlusion", run.path, "--data", shapes_run, *COMMON, *SOME)
    code, out, err = sslkit(*words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results == json.loads(run.results("occlusion").read_text())
    rows = balanced_rows(open_split(Run(shapes_run).data, "val").labels, 40, 0)
    head = safetensors.torch.load_file(run.linear_head)
    features, labels = (np.load(run.feature("val", name)) for name in ("cls", "labels"))
    predicted = (torch.from_numpy(features[rows]) @ head["weight"].T + head["bias"]).argmax(1).numpy()
    assert results["images"] == 40
    assert results["intact_top1"] == 100 * (predicted == labels[rows]).sum() / 40
    assert list(results["curves"]) == ["random", "salient", "background", "object", "off-object"]
    for kind, rows in results["curves"].items():
        assert [row["share"] for row in rows] == [0, 0.25, 0.75]
        assert [row["dropped"] for row in rows] == [0, 4, 12]
        assert rows[0]["top1"] == results["intact_top1"]
        assert all(row["interval"][0] <= row["top1"] <= row["interval"][1] for row in rows)
        assert len(rows[0]["draws"]) == (2 if kind == "random" else 1)
        assert (rows[0]["draws_interval"] is None) == (kind != "random")
        assert results["area"][kind] == pytest.approx(
            (0.25 * (rows[0]["top1"] + rows[1]["top1"]) + 0.5 * (rows[1]["top1"] + rows[2]["top1"])) / 1.5
        )
    (picture,) = results["pictures"]
    assert (run.folder("occlusion") / picture["file"]).exists()
    assert "Intact" in picture["alt"]
    code, out, err = sslkit(*words)
    assert code == 0
    assert "up to date" in err
    assert "dropped" in out
    code, _, err = sslkit(*words, "--count", 20)
    assert code == 1
    assert "--force redoes it" in err
    assert sslkit(*words, "--count", 20, "--force")[0] == 0
    assert json.loads(run.results("occlusion").read_text())["images"] == 20


def test_dropping_tokens_is_a_variant(run, shapes_run, sslkit):
    words = ("occlusion", run.path, "--data", shapes_run, *COMMON, *SOME, "--drop", "tokens", "--json")
    code, out, err = sslkit(*words)
    assert code == 0, err
    assert json.loads(out)["drop"] == "tokens"
    assert run.results("occlusion:tokens").exists()
    assert not run.results("occlusion").exists()
    # A head on several blocks cannot be evaluated with tokens dropped; older results are kept.
    results = json.loads(run.results("linear").read_text())
    run.results("linear").write_text(json.dumps({**results, "features": "CLS of last 2"}))
    (run.folder("linear") / "stage.json").unlink()  # it vouches for the files as they were
    head = safetensors.torch.load_file(run.linear_head)
    head["weight"] = head["weight"].repeat(1, 2)
    safetensors.torch.save_file(head, run.linear_head)
    code, _, err = sslkit(*words, "--force")
    assert code == 2
    assert "several blocks" in err
    assert run.results("occlusion:tokens").exists()


def test_another_seed_is_another_setting_and_another_encoder_makes_it_stale(run, shapes_run, sslkit):
    words = ("occlusion", run.path, "--data", shapes_run, *COMMON, *SOME)
    assert sslkit(*words)[0] == 0
    assert changed_inputs(run, "occlusion") == []
    code, _, err = sslkit(*words, "--seed", 1)
    assert code == 1
    assert "seed was 0, now 1" in err
    assert err.count("\n") == 1
    run.features_info.write_text(run.features_info.read_text() + " ")
    assert changed_inputs(run, "occlusion") == ["features"]
    weights = safetensors.torch.load_file(run.encoder)
    safetensors.torch.save_file({name: value + 1 for name, value in weights.items()}, run.encoder)
    assert changed_inputs(run, "occlusion") == ["weights", "features"]


def test_objects_are_not_dropped_if_some_images_have_no_mask(run, shapes_run, sslkit, monkeypatch):
    honest = Split.having
    monkeypatch.setattr(Split, "having", lambda split, name: honest(split, name)[3:])
    code, out, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON[:-1], 5000, "--shares", 0.5, "--json")
    assert code == 0
    assert "objects are not dropped: 3 of the 1000 images have no object mask" in err
    assert list(json.loads(out)["curves"]) == ["random", "salient", "background"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--drop", "blocks"), "must be pixels or tokens"),
        (("--weights", "random"), "was made by"),
        (("--weights", "random", "--arch", "resnet18"), "was made by"),
    ],
)
def test_another_encoder_than_the_features_is_refused(run, shapes_run, sslkit, words, message):
    code, _, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON, *words)
    assert code in (1, 2)
    assert message in err
    assert err.count("\n") == 1
    assert not run.folder("occlusion").exists()


def test_without_a_linear_probe_the_message_names_its_command(run, shapes_run, sslkit):
    shutil.rmtree(run.folder("linear"))
    code, _, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON)
    assert code == 1
    assert "run `sslkit linear" in err
    assert err.count("\n") == 1
