"""What a training run shows in loggers: one experiment, also after a kill, with the results of later stages."""

import importlib
import json
import sys
from importlib.util import find_spec

import pytest
from conftest import write_features
from experiments import from_mlflow, from_tensorboard, from_wandb
from feature_blobs import blobs

from sslkit import registry
from sslkit.errors import InterruptedRun, SslkitError
from sslkit.loggers.base import PACKAGE
from stages.contract.experiment import NOTE, Loggers
from stages.contract.layout import Run

QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", 0]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the loggers' packages


@pytest.fixture
def words(shapes_run, tiny_scale):
    return ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, *QUICK, "--epochs", 1]


def losses(run: Run) -> dict[int, list[float]]:
    rows = map(json.loads, run.metrics.read_text().splitlines())
    return {row["step"]: [pytest.approx(row["loss"])] for row in rows}


def dies_at(step: int):
    """A ``Loggers.row`` that is as sudden as SIGKILL for everything but the loggers' buffers."""
    row = Loggers.row

    def dying(self, values):
        row(self, values)
        if values["step"] == step:
            raise KeyboardInterrupt

    return dying


def test_a_killed_run_continues_its_experiment_and_later_stages_add_to_it(words, sslkit, tmp_path, monkeypatch):
    store = f"file:{tmp_path / 'store'}"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("WANDB_MODE", "offline")
    readers = {
        "tensorboard": from_tensorboard,
        "wandb": from_wandb,
        "mlflow": lambda folder, known: from_mlflow(folder, known, store),
    }
    names = [name for name in readers if find_spec(name)]
    plain, run = Run(tmp_path / "plain"), Run(tmp_path / "run")
    assert sslkit("pretrain", plain.path, *words)[0] == 0

    logged = [word for name in names for word in ("--log", name)]
    logged += ["--attention-every", 0.4, "--set", "train.checkpoint_minutes=1e-6"]  # a checkpoint at every step
    with monkeypatch.context() as patch:
        patch.setattr(Loggers, "row", dies_at(4))
        assert sslkit("pretrain", run.path, *words, *logged)[0] == 130
    before = json.loads((run.logs / NOTE).read_text())
    code, _, err = sslkit("pretrain", run.path, *words, *logged)
    assert code == 0, err
    assert "resuming at step 3 of 5" in err
    assert [step for step, _ in run.attention_pictures()] == [0, 2, 4, 5]
    # Neither drawing nor logging changes a weight or a random number.
    assert run.encoder.read_bytes() == plain.encoder.read_bytes()

    few = blobs(60, 3, 0)
    write_features(run.path, few, few)
    code, _, err = sslkit("knn", run.path)
    assert code == 0, err
    assert json.loads((run.logs / NOTE).read_text()) == before
    top1 = json.loads(run.results("knn").read_text())["top1"]
    for name in names:
        found = readers[name](run.logs / name, before[name])
        assert found.scalars["loss"] == losses(run), name
        assert found.pictures == {"views", "attention"}, name
        assert found.results["results/knn/top1"] == pytest.approx(top1), name
        assert found.epochs == "1.0", name


DIARY = """
from sslkit.loggers.base import Logger

class Diary(Logger):
    package = "json"
    where = "in memory"
    lines = []

    def begin(self, experiment):
        self.lines.append(f"begin {experiment.config['train']['epochs']}")
        return {"id": "7"}

    def row(self, row):
        self.lines.append(f"row {row['step']}")

    def picture(self, picture):
        self.lines.append(f"{picture.name} {picture.step}")

    def results(self, results, step):
        self.lines.append(f"{len(results)} results")

    def close(self, complete):
        self.lines.append("complete" if complete else "cut")
"""


def test_a_file_dropped_into_the_folder_is_a_logger(words, sslkit, tmp_path, monkeypatch):
    package = importlib.import_module(PACKAGE)
    (tmp_path / "diary.py").write_text(DIARY)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.diary", raising=False)
    code, _, err = sslkit("pretrain", tmp_path / "run", *words, "--log", "diary", "--attention-every", 0.6)
    assert code == 0, err
    assert "diary: in memory" in err
    rows = ["row 1", "row 2", "row 3", "attention 3", "row 4", "row 5", "attention 5"]
    lines = registry.load(PACKAGE, "diary").lines
    assert lines == ["begin 1.0", "views 0", "attention 0", "0 results", *rows, "complete"]
    assert json.loads((Run(tmp_path / "run").logs / NOTE).read_text()) == {"diary": {"id": "7"}}
    sys.modules.pop(f"{PACKAGE}.diary")


def test_a_logger_that_fails_stops_nothing_and_is_filled_in_later(words, sslkit, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from sslkit.loggers.tensorboard import TensorBoardLogger

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(TensorBoardLogger, "row", lambda self, row: 1 / 0)
        code, _, err = sslkit("pretrain", run.path, *words, "--log", "tensorboard")
    assert code == 0
    assert err.count("--log tensorboard failed (division by zero); the run goes on without it") == 1
    code, _, err = sslkit("pretrain", run.path, *words, "--tensorboard")
    assert code == 0
    assert "up to date" in err
    assert from_tensorboard(run.logs / "tensorboard", {}).scalars["loss"] == losses(run)
    # A run that is trained anew has a new experiment, or none.
    assert sslkit("pretrain", run.path, *words, "--force")[0] == 0
    assert not run.logs.exists()


def test_a_signal_that_a_package_wraps_in_its_own_error_still_ends_the_run(tmp_path):
    def call(logger):
        try:
            raise InterruptedRun("terminated", 15)
        except InterruptedRun as error:
            raise RuntimeError("request failed") from error

    with pytest.raises(InterruptedRun, match="terminated"):
        Loggers(Run(tmp_path), {"any": None}).each(call)


def test_a_damaged_note_is_said_and_loses_no_result(sslkit, tmp_path):
    run = Run(tmp_path / "run")
    few = blobs(60, 3, 0)
    write_features(run.path, few, few)
    run.logs.mkdir()
    (run.logs / NOTE).write_text("{")
    code, out, err = sslkit("knn", run.path)
    assert code == 0
    assert "k-NN top-1" in out
    assert "the results were not added to the experiments" in err


def test_a_picture_that_cannot_be_drawn_stops_nothing(words, sslkit, tmp_path, monkeypatch):
    def broken(*_):
        raise SslkitError("its weights hold NaN")

    monkeypatch.setattr("sslkit.plots.attention.grid.draw_grid", broken)
    code, _, err = sslkit("pretrain", tmp_path / "run", *words, "--attention-every", 1)
    assert code == 0, err
    assert "no attention was drawn at step 5: its weights hold NaN" in err


def test_an_encoder_without_attention_is_refused_before_it_is_trained(words, sslkit, tmp_path):
    words[words.index("dino")] = "simclr"
    code, _, err = sslkit("pretrain", tmp_path / "run", *words, "--arch", "resnet18", "--attention-every", 1)
    assert code == 2, err
    assert "resnet18 is not a ViT, so there is no attention to draw: leave out --attention-every" in err
    assert not (tmp_path / "run").exists()
