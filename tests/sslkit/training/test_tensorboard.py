"""TensorBoard shows what the log says, each step once."""

import json

import pytest

from stages.contract.layout import Run

pytest.importorskip("tensorboard")
QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", 0]


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.events))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore")  # of tensorboard
def test_events_are_the_logs_rows_also_of_a_training_that_is_over(shapes_run, tiny_scale, sslkit, tmp_path):
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, *QUICK, "--epochs", 1]
    watched, later = Run(tmp_path / "watched"), Run(tmp_path / "later")
    assert sslkit("pretrain", watched.path, *words, "--tensorboard")[0] == 0
    rows = [json.loads(line) for line in watched.metrics.read_text().splitlines()]
    found = scalars(watched)
    assert found["loss"] == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    assert "dino/kl" in found
    assert "knn" in found
    assert "step" not in found
    assert sslkit("pretrain", later.path, *words)[0] == 0
    assert not later.events.exists()
    code, _, err = sslkit("pretrain", later.path, *words, "--tensorboard")
    assert code == 0
    assert "up to date" in err
    assert scalars(later)["loss"] == found["loss"]


def test_without_the_package_it_says_so_at_once(shapes_run, tiny_scale, sslkit, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, *QUICK]
    code, _, err = sslkit("pretrain", tmp_path / "run", *words, "--tensorboard")
    assert code == 2
    assert "pip install 'sslkit[tensorboard]'" in err
    assert not (tmp_path / "run").exists()
