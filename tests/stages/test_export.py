"""An exported encoder loads in the other library by the card's own words, and gives the same features."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, unsealed
from safetensors.torch import load_file

from sslkit import registry
from sslkit.files import write_json
from sslkit.weights.read import load_encoder
from stages.contract.layout import Run
from stages.export import FORMATS

PACKAGES = {"onnx": "onnxruntime", "transformers": "transformers"}


def code_of(card: str) -> str:
    """What the card tells a person to type."""
    return "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("format", registry.names(FORMATS))
def test_the_cards_words_load_it_and_the_features_are_the_same(trained_run, sslkit, tmp_path, format, monkeypatch):
    if format in PACKAGES:
        pytest.importorskip(PACKAGES[format])
    code, out, _ = sslkit("export", trained_run, tmp_path / "out", "--format", format, "--json")
    assert code == 0
    assert json.loads(out)["files"]["README.md"] > 0
    shutil.move(tmp_path / "out", tmp_path / "moved")  # nothing in it names its place
    monkeypatch.chdir(tmp_path / "moved")
    told: dict = {}
    with torch.no_grad():
        exec(code_of(Path("README.md").read_text()), told)
        run = Run(trained_run)
        expected = load_encoder(run.encoder, run.encoder_info)(told["images"]).cls
    cls = torch.as_tensor(told["cls"])
    assert cls.shape == expected.shape == (2, 24)
    torch.testing.assert_close(cls, expected, rtol=1e-4, atol=1e-5)


def test_the_card_says_what_it_is(trained_run, sslkit, tmp_path):
    assert sslkit("export", trained_run, tmp_path / "out")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    found = json.loads((trained_run / "knn/results.json").read_text())
    told = f"- k-NN (k = {found['k']}): top-1 {found['top1']:.1f} % on val of shapes ({found['val_images']:,} images)"
    assert card.startswith("---\nlibrary_name: timm\npipeline_tag: image-feature-extraction\ntags:\n")
    assert told in card.splitlines()
    for words in ("dino + ibot with attention masks for 2 epochs", "weights of the teacher", "80 images, 10 classes"):
        assert words in card
    assert "sslkit pretrain" in card


def test_the_students_encoder_can_be_exported(trained_run, sslkit, tmp_path):
    for branch in ("student", "teacher"):
        assert sslkit("export", trained_run, tmp_path / branch, "--branch", branch)[0] == 0
    checkpoint = torch.load(trained_run / "pretrain/checkpoint.pt", weights_only=True)["method"]
    for branch in ("student", "teacher"):
        for key, value in load_file(tmp_path / branch / "model.safetensors").items():
            assert torch.equal(value, checkpoint[f"{branch}.encoder.model.{key}"]), (branch, key)
    card = (tmp_path / "student/README.md").read_text()
    assert "These are the weights of the student." in card
    assert "Not evaluated." in card  # the accuracies of the run are those of its teacher
    assert "top-1" in (tmp_path / "teacher/README.md").read_text()
    # Evaluated as any other weights are.
    words = ["--data", trained_run, "--device", "cpu", "--workers", 0]
    assert sslkit("extract", tmp_path / "run", "--weights", tmp_path / "student", *words)[0] == 0


def test_the_card_states_no_stale_number_and_nothing_that_does_not_evaluate(trained_run, sslkit, tmp_path):
    run = trained_run.with_name("card")
    shutil.copytree(trained_run, run)
    shutil.copytree(run / "features", run / "on" / "other" / "features")
    (run / "on" / "other" / "features" / "stage.json").unlink()  # features of another program
    for folder in ("on/other/knn", "neighbours"):
        shutil.copytree(run / "knn", run / folder)
    (run / "features" / "features.json").write_text("{}")
    assert sslkit("export", run, tmp_path / "out", "--format", "onnx")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    scores = [line for line in card.splitlines() if " on val of " in line]
    assert [line.partition(":")[0] for line in scores] == ["- k-NN (k = 20) on val of shapes", "- k-NN (k = 20)"]
    assert "stale" in scores[0]
    assert "%" not in scores[0]
    assert "% on val of other (" in scores[1]
    assert "library_name" not in card  # no library loads a graph by its name


def test_the_card_states_this_encoders_scores_only_and_the_number_of_shots(trained_run, sslkit, tmp_path):
    run = trained_run.with_name("card-few")
    shutil.copytree(trained_run, run)
    rows = [{"shots": 10, "top1": 20.0, "interval": 1.26, "top5": 50.0, "draws": 20}]
    made = {"knn-shots": ("run", {"shots": rows}), "finetune": ("run", {}), "finetune-random": ("random", {}),
            "finetune-unfreeze-0": ("file", {})}  # fmt: skip
    for folder, (weights, results) in made.items():
        shutil.copytree(run / "knn", run / folder)
        record = unsealed(run / folder / "stage.json")
        record |= {"inputs": {}, "config": {"weights": weights}, "results": {"top1": 20.0, "val_images": 40, **results}}
        (run / folder / "stage.json").write_text(json.dumps(record))
    assert sslkit("export", run, tmp_path / "out")[0] == 0
    scores = [line for line in (tmp_path / "out" / "README.md").read_text().splitlines() if " on val of " in line]
    assert [line.partition(":")[0] for line in scores] == [
        "- k-NN (k = 20)",
        "- few-shot, 10 shots, mean of 20 draws",
        "- fine-tuned",
    ]
    assert "top-1 20.0 ± 1.3 % on val" in scores[1]


def test_a_folder_that_holds_something_is_kept(trained_run, sslkit, tmp_path):
    (tmp_path / "mine").write_text("")
    for words in ([tmp_path], [tmp_path, "--force"]):
        code, _, err = sslkit("export", trained_run, *words)
        assert code == 1
        assert "is not empty and is not an earlier export: name a new folder" in err
    code, _, err = sslkit("export", trained_run, trained_run, "--force")
    assert code == 1
    assert (trained_run / "pretrain" / "encoder.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    for format, code in (("timm", 0), ("pt", 1)):
        assert sslkit("export", trained_run, tmp_path / "new", "--format", format)[0] == code
    assert sslkit("export", trained_run, tmp_path / "new", "--format", "pt", "--force")[0] == 0
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"README.md", "encoder.pt"}
    code, _, err = sslkit("export", tmp_path, tmp_path / "out")
    assert code == 1
    assert "sslkit pretrain" in err
    record = {"status": "done", "config": {"weights": "pixels", "encoder": None}, "inputs": {}, "results": {}}
    write_json(Run(tmp_path / "pixels").features / "stage.json", record)
    code, _, err = sslkit("export", tmp_path / "pixels", tmp_path / "out")
    assert code == 1
    assert "is a baseline of raw pixels, which has no encoder: name a pretrained run" in err
    assert "--weights" not in err


DROPPED = """
from sslkit.export.formats.base import ExportFormat

class Shape(ExportFormat):
    usage = "cls = None"

    def write(self, encoder, folder):
        (folder / "shape.txt").write_text(f"{encoder.width} {encoder.depth}")
"""


def test_a_dropped_file_is_a_format(trained_run, tmp_path):
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "shape.py").write_text(DROPPED)
    code = (
        "import sys; from sslkit.export import formats; formats.__path__.append(sys.argv.pop(1));"
        "from stages import cli; cli.main()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "formats"), "export"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    told = subprocess.run([*words, "--help"], env=env, capture_output=True, text=True, check=True).stdout
    assert "shape" in told
    asked = [*words, str(trained_run), str(tmp_path / "out"), "--format", "shape"]
    subprocess.run(asked, env=env, capture_output=True, check=True)
    assert (tmp_path / "out" / "shape.txt").read_text() == "24 2"
    assert "cls = None" in (tmp_path / "out" / "README.md").read_text()
