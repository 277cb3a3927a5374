"""What every logger does: each step once, however often the experiment is opened."""

import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from experiments import READERS
from PIL import Image

from sslkit import registry
from sslkit.errors import UsageError
from sslkit.loggers.base import PACKAGE, Experiment, LoggedPicture

CONFIG = {"method": {"name": "joint_embedding"}, "train": {"epochs": 2.0, "seed": 0}}
ROWS = [
    {"step": n, "epoch": n / 4, "loss": 1 / n, "dino/kl": None if n == 2 else 2.0, "warnings": []} for n in range(1, 9)
]
RESULTS = {"results/knn/top1": 17.5, "results/segment/iou/große (?)..//": 3.0}  # classes have any name
LOSSES = {row["step"]: [pytest.approx(row["loss"])] for row in ROWS}

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages


@pytest.fixture
def picture(tmp_path) -> LoggedPicture:
    path = tmp_path / "views.png"
    Image.new("RGB", (12, 8), "red").save(path)
    return LoggedPicture("views", 0, path)


@pytest.mark.parametrize("name", registry.names(PACKAGE))
def test_an_experiment_that_is_opened_again_goes_on_where_it_was(name, picture, tmp_path, monkeypatch):
    kind = registry.load(PACKAGE, name)
    pytest.importorskip(kind.package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "logs" / name
    first = kind(folder, {})
    known = first.open(Experiment("a", CONFIG, [], [picture], {}))
    for row in ROWS[:4]:
        first.row(row)
        first.flush()
    first.close(complete=False)

    later = LoggedPicture("attention", 5, picture.path)
    again = kind(folder, known)
    # The log was rewound to step 3 and went on; a stage was done in between.
    assert again.open(Experiment("a", CONFIG, ROWS[:3], [picture], RESULTS)) == known
    for row in ROWS[3:]:
        again.row(row)
        again.flush()
        if row["step"] == later.step:
            again.picture(later)
    assert str(tmp_path) in again.where
    again.close(complete=True)

    found = READERS[name](folder, known)
    assert found.scalars["loss"] == LOSSES
    assert set(found.scalars) == {"epoch", "loss", "dino/kl"}
    assert found.pictures == {"views", "attention"}
    assert found.results["results/knn/top1"] == 17.5
    assert sorted(found.results.values()) == sorted(RESULTS.values())
    assert found.epochs == "2.0"


@pytest.mark.parametrize("name", registry.names(PACKAGE))
def test_without_its_package_it_names_the_extra(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"--log {name} requires .*: pip install 'sslkit\[{name}\]'"):
        registry.load(PACKAGE, name).check_installed()


def test_what_the_server_of_wandb_has_is_not_sent_again(tmp_path, monkeypatch):
    """There is no server here, so a stand-in says that it has the steps up to 4."""
    sent, asked = [], {}

    def init(**options):
        asked.update(options)
        run = MagicMock(starting_step=5, offline=False, url="https://wandb.ai/me/sslkit/runs/1a2b3c4d")
        run.log = lambda values, step: sent.append(step)
        return run

    stand_in = SimpleNamespace(login=lambda **_: True, init=init, Settings=dict, Image=str, teardown=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger = registry.load(PACKAGE, "wandb")(tmp_path / "wandb", {"id": "1a2b3c4d", "project": "mine"})
    assert logger.open(Experiment("a", CONFIG, ROWS, [], {})) == {"id": "1a2b3c4d", "project": "mine"}
    assert sent == [5, 6, 7, 8]
    assert (asked["mode"], asked["resume"], asked["id"]) == ("online", "allow", "1a2b3c4d")
    assert logger.where == "https://wandb.ai/me/sslkit/runs/1a2b3c4d"
