"""`sslkit compare`: the table, seeds with their interval, differences from a baseline, and what is not comparable."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from sslkit.files import sha256, write_json
from sslkit.statistics.paired import over_images
from stages.contract.layout import Run


def finished(path: Path, knn: float | None, linear: float | None = None, **training) -> Path:
    """A run whose stages are done, with these results."""
    run = Run(path)
    stages = {"knn": {"top1": knn, "k": 20}, "linear": {"top1": linear}}
    for stage, results in stages.items():
        if results["top1"] is not None:
            write(run, stage, results)
    if training:
        write(run, "pretrain", {"epochs": 2.0, "images_per_second": 100.0, **training}, 120.0, 1800)
    return path


def write(run: Run, stage: str, results: dict, seconds: float = 1.0, memory: int = 10, **facts) -> None:
    run.folder(stage).mkdir(parents=True)
    record = {
        "status": "done",
        "results": results,
        "seconds": seconds,
        "peak_memory_mb": memory,
        "config": {},
        "inputs": {},
        "outputs": {},
    }
    write_json(run.folder(stage) / "stage.json", {**record, **facts})


def evaluated(path: Path, right: list[bool], stage: str = "knn", rows=None, labels=None, **facts) -> Path:
    """A run that one stage evaluated, with its predictions: class 1 where it is right, else 0."""
    run, images = Run(path), len(right)
    rows = np.arange(images) if rows is None else np.asarray(rows)
    labels = np.ones(images, np.int64) if labels is None else np.asarray(labels)
    write(run, stage, {"top1": 100 * float(np.mean(right)), **({"k": 20} if stage == "knn" else {})}, **facts)
    np.savez(run.predictions(stage), rows=rows, labels=labels, predicted=np.where(right, labels, labels - 1))
    return path


def compared(sslkit, *words: object) -> dict:
    code, out, err = sslkit("compare", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_table_has_memory_and_a_column_for_collapse_only_if_a_run_collapsed(sslkit, tmp_path: Path) -> None:
    runs = [finished(tmp_path / "good", 44.5, 50.0, collapse={}), finished(tmp_path / "old", 40.0, loss=1.0)]
    code, out, err = sslkit("compare", *runs, finished(tmp_path / "pixels", 39.0))
    header, *rows = out.splitlines()
    assert code == 0
    old, pixels = runs[1], tmp_path / "pixels"
    for run in (old, pixels):
        assert f"{run} (it has neither features nor an encoder: restore the features, train by " in err
    assert err.startswith("note: not evaluated yet: ")
    assert err.count("\n") == 1
    assert header.endswith("images/s  peak MB")
    assert "collapse" not in out
    assert rows[0].split() == ["good", "44.5", "50.0", "2.0", "2.0", "100.0", "1800"]
    assert rows[2].split() == ["pixels", "39.0", "-", "-", "-", "-", "-"]
    bad = finished(tmp_path / "bad", 20.0, collapse={"dino": "uniform targets", "features": "features alike"})
    _, out, _ = sslkit("compare", *runs, bad)
    header, *rows = out.splitlines()
    assert header.endswith("collapse")
    assert rows[0].endswith(" -")
    assert rows[2].endswith("dino: uniform targets; features alike")


def test_seeds_are_one_row_with_an_interval(sslkit, tmp_path: Path) -> None:
    kinds = ({}, {"dino": "one prototype"}, {})
    values = zip((44.0, 45.0, 46.0), (50.0, 52.0, None), kinds, strict=True)
    runs = [finished(tmp_path / f"a-s{i}", knn, lin, collapse=kind) for i, (knn, lin, kind) in enumerate(values)]
    runs.append(finished(tmp_path / "b-s0", 30.0, 31.0, collapse={}))
    _, out, _ = sslkit("compare", *runs, "--seeds")
    _, first, second = out.splitlines()
    # 4.3027 / sqrt(3) = 2.484; of the two linear probes 12.7062 * sqrt(2) / sqrt(2).
    assert first.startswith("a     45.0 ± 2.5 (3)  51.0 ± 12.7 (2)")
    assert first.endswith("dino: one prototype (1 of 3)")
    assert second.split()[:3] == ["b-s0", "30.0", "31.0"]
    assert "±" not in second
    _, out, _ = sslkit("compare", *runs, "--seeds", "--json")
    row = json.loads(out)["runs"][0]
    assert (row["seeds"], row["knn"], row["knn_runs"]) == (3, 45.0, 3)
    assert row["knn_interval"] == pytest.approx(2.484, abs=1e-3)
    assert row["peak_memory_mb"] == 1800


def test_a_markdown_table(sslkit, tmp_path: Path) -> None:
    _, out, _ = sslkit("compare", finished(tmp_path / "a|b", 44.5), "--markdown")
    assert out.splitlines() == [
        "| run | k-NN top-1 | linear top-1 | epochs | minutes | images/s | peak MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| a\\|b | 44.5 | - | - | - | - | - |",
    ]


def test_runs_at_different_k_are_noted(sslkit, tmp_path: Path) -> None:
    runs = [finished(tmp_path / "a", 44.5), tmp_path / "b"]
    write(Run(runs[1]), "knn", {"top1": 40.0, "k": 10})
    _, _, err = sslkit("compare", *runs)
    assert err == "note: not comparable: k-NN at different k (a 20, b 10)\n"


def test_every_evaluation_is_a_column_on_whatever_data(sslkit, tmp_path: Path) -> None:
    run, other = Run(finished(tmp_path / "a", 44.5)), finished(tmp_path / "b", 40.0, 50.0)
    write(run, "finetune:labels-0.01", {"top1": 60.25})
    write(run, "linear:augment", {"top1": 55.0})
    write(run, "segment", {"headline": {"jaccard": 0.4567, "miou": 31.26, "note": "x"}})
    write(run, "health", {"effective_rank": 12.0})
    write(run, "linear", {"top1": 99.0}, status="failed")
    for name in ("photos", "cars"):
        below = Run(tmp_path / "a" / "on" / name)
        write(below, "knn", {"top1": 20.0 + len(name), "k": 20})
        write(below, "segment", {"headline": {"jaccard": 10.0}})
    _, out, err = sslkit("compare", run.path, other)
    # Too many columns for a terminal: each is a line.
    lines = [[word.strip() for word in line.split("  ") if word] for line in out.splitlines()]
    titles, first, second = zip(*lines, strict=True)
    assert err.startswith("note: not evaluated yet: ")
    assert err.count("sslkit linear ") == 1
    assert list(titles[:7]) == [
        *("run", "k-NN top-1", "linear top-1", "linear, augment", "fine-tuned, labels-0.01"),
        *("segmentation Jaccard", "segmentation mIoU"),
    ]
    assert titles[7:11] == (
        "k-NN on cars",
        "segmentation Jaccard on cars",
        "k-NN on photos",
        "segmentation Jaccard on photos",
    )
    assert " ".join(first).startswith("a 44.5 - 55.0 60.2 0.457 31.3 24.0 10 26.0 10 - ")
    assert second[:5] == ("b", "40.0", "50.0", "-", "-")
    row = compared(sslkit, run.path, other)["runs"][0]
    assert row["linear:augment"] == 55.0
    assert row["knn on photos"] == 26.0
    assert row["segment miou"] == 31.26
    # A run below on/ is a run too; the cost of its encoder's training is the upper run's.
    finished(tmp_path / "c", None, collapse={})
    write(Run(tmp_path / "c" / "on" / "cars"), "knn", {"top1": 33.0, "k": 20})
    assert compared(sslkit, tmp_path / "c" / "on" / "cars")["runs"][0]["images_per_second"] == 100.0


def test_runs_trained_on_different_data_share_a_column_for_each_dataset(sslkit, tmp_path: Path) -> None:
    for name in ("cars", "cats"):
        write_json(Run(tmp_path / name).manifest, {"name": name})
    for name, on, own, top1 in (("a", "cats", "cars", 40.0), ("b", "cars", "cats", 30.0)):
        Run(tmp_path / name, tmp_path / own).remember_data()
        write(Run(tmp_path / name), "knn", {"top1": top1, "k": 20})
        write(Run(tmp_path / name / "on" / on), "knn", {"top1": top1 / 2, "k": 20})
    rows = compared(sslkit, tmp_path / "a", tmp_path / "b")["runs"]
    assert [(row["knn on cars"], row["knn on cats"]) for row in rows] == [(40.0, 20.0), (15.0, 30.0)]
    assert "knn" not in rows[0]


def test_the_difference_over_test_images_is_paired(sslkit, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    a, b = random.random(400) < 0.6, random.random(400) < 0.5
    order = random.permutation(400)  # predictions name their rows, so their order is free
    runs = [evaluated(tmp_path / "a", a[order].tolist(), rows=order), evaluated(tmp_path / "b", b.tolist())]
    answer = compared(sslkit, *runs, "--baseline", runs[1])
    (found,) = answer["differences"]
    expected = over_images(a, b)
    assert answer["baseline"] == "b"
    assert answer["notes"] == []
    assert (found["run"], found["accuracy"], found["over"], found["images"]) == ("a", "knn", "test images", 400)
    assert found["difference"] == pytest.approx(100 * (a.mean() - b.mean()))
    assert [found[key] for key in ("low", "high", "p")] == [expected.low, expected.high, expected.p]
    assert found["run_interval"][0] < answer["runs"][0]["knn"] < found["run_interval"][1]
    # The baseline need not be among the runs, and swapping the two flips the sign.
    (other,) = compared(sslkit, runs[1], "--baseline", runs[0])["differences"]
    assert other["run"] == "b"
    assert (other["difference"], other["low"]) == (-found["difference"], -found["high"])
    _, out, _ = sslkit("compare", *runs, "--baseline", runs[1])
    assert "Difference from b, in percentage points:" in out
    assert "400 test images" in out
    assert "Over test images: these two encoders" in out
    assert "Over seeds" not in out


def test_a_run_does_not_differ_from_its_copy(sslkit, trained_run: Path, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(trained_run, tmp_path / name)) for name in "ab"]
    answer = compared(sslkit, *runs, "--baseline", runs[0])
    (found,) = answer["differences"]
    assert [found[key] for key in ("difference", "low", "high", "p")] == [0, 0, 0, 1]
    assert answer["configs"] == {}
    assert answer["notes"] == []
    assert sslkit("compare", runs[0], "--baseline", runs[0])[1].endswith("No other run has an accuracy that a has.\n")


def test_predictions_for_other_images_or_labels_are_not_compared(sslkit, tmp_path: Path) -> None:
    right = [True, False, True, True]
    runs = {"base": evaluated(tmp_path / "base", right)}
    runs["rows"] = evaluated(tmp_path / "rows", right, rows=[0, 1, 2, 4])
    runs["labels"] = evaluated(tmp_path / "labels", right, labels=[1, 1, 1, 2])
    runs["none"] = finished(tmp_path / "none", 50.0)
    runs["old"] = evaluated(tmp_path / "old", right)
    ones = np.ones(4, np.int64)
    np.savez(Run(runs["old"]).predictions("knn"), rows=np.arange(4), labels=ones, predicted=ones)
    found = {row["run"]: row for row in compared(sslkit, *runs.values(), "--baseline", runs["base"])["differences"]}
    assert found["rows"]["not_comparable"] == "predictions for different test images (4 and 4)"
    assert found["labels"]["not_comparable"] == "predictions for different labels"
    assert found["none"]["difference"] == -25
    assert "kept no predictions: redo `sslkit knn` with --force" in found["none"]["no_interval"]
    assert "gives top-1 100.00, but the stage reports 75.00" in found["old"]["no_interval"]
    _, out, _ = sslkit("compare", *runs.values(), "--baseline", runs["base"])
    assert "-25.00      -              -  no interval: " in out
    assert "-           -              -  not comparable: predictions for different labels" in out


def manifest(path: Path, train: str, val: str) -> dict:
    """What a stage records of a manifest that lists one shard for each split."""
    splits = {name: {"shards": [{"sha256": shard}]} for name, shard in {"train": train, "val": val}.items()}
    write_json(path, {"splits": splits, "source": path.name})
    return {"data": {"path": f"../{path.name}", "sha256": sha256(path)}}


def test_results_by_another_protocol_are_noted_and_not_compared(sslkit, tmp_path: Path) -> None:
    right = [True, False, True, True]
    data = {
        name: manifest(tmp_path / f"{name}.json", *shards)
        for name, shards in {"x": ("t", "v"), "same": ("t", "v"), "train": ("u", "v"), "val": ("t", "w")}.items()
    }
    settings = {
        "base": ("x", {"temperature": 0.07, "k": "sweep"}, 32),
        "same": ("same", {"temperature": 0.07, "k": [20]}, 32),
        "train": ("train", {"temperature": 0.07}, 32),
        "val": ("val", {"temperature": 0.07}, 32),
        "warm": ("x", {"temperature": 0.1}, 32),
        "large": ("x", {"temperature": 0.07}, 64),
    }
    for name, (where, config, size) in settings.items():
        evaluated(tmp_path / name, right, config=config)
        extraction = {"weights": "run", "image_size": size, "batch_size": size, "precision": name}
        write(Run(tmp_path / name), "extract", {}, inputs=data[where], config=extraction)
    answer = compared(sslkit, *(tmp_path / name for name in settings), "--baseline", tmp_path / "base")
    found = {row["run"]: row.get("not_comparable") for row in answer["differences"]}
    assert found["same"] is None
    assert [found[name].split()[1] for name in ("train", "val")] == ["training", "test"]
    assert found["warm"] == "different temperature 0.1 and 0.07"
    assert found["large"] == "different image size 64 and 32"
    notes = "\n".join(answer["notes"])
    assert len(answer["notes"]) == 4
    assert "not comparable: k-NN on different test images (base " in notes
    assert "k-NN at different temperature (base 0.07, same 0.07, train 0.07, val 0.07, warm 0.1, large" in notes
    # If a manifest is gone, the fingerprint of the whole replaces those of its splits.
    (tmp_path / "same.json").unlink()
    (row,) = compared(sslkit, tmp_path / "same", "--baseline", tmp_path / "base")["differences"]
    assert row["not_comparable"].startswith("different test images ")


def test_settings_of_a_probe_are_protocol_and_the_size_of_raw_pixels_is_not(sslkit, tmp_path: Path) -> None:
    right = [True, False]
    for name, layers, seed, source in (("a", None, 0, "run"), ("b", 4, 1, "run"), ("c", None, 7, "pixels")):
        evaluated(tmp_path / name, right, "linear", config={"layers": layers, "seed": seed, "patch_mean": False})
        config = {"weights": source, "image_size": {"run": 224, "pixels": 32}[source]}
        write(Run(tmp_path / name), "extract", {}, config=config)
    answer = compared(sslkit, tmp_path / "b", tmp_path / "c", "--baseline", tmp_path / "a")
    assert answer["notes"] == ["not comparable: linear at different layers (a none, b 4, c none)"]
    assert answer["differences"][0]["not_comparable"] == "different layers 4 and none"
    assert answer["differences"][1]["difference"] == 0
    # Which images keep their labels belongs to the protocol.
    for name, seed in (("a", 0), ("b", 1)):
        evaluated(tmp_path / name, right, "linear:labels-0.1", config={"label_fraction": 0.1, "seed": seed})
    answer = compared(sslkit, tmp_path / "b", "--baseline", tmp_path / "a")
    assert "not comparable: linear, labels-0.1 at different seed of the labels (a 0, b 1)" in answer["notes"]


def test_seeds_are_paired_by_their_number(sslkit, tmp_path: Path) -> None:
    accuracies = {"a": {2: 43.0, 0: 41.0, 1: 42.0, 7: 90.0}, "b": {0: 40.0, 1: 40.0, 2: 40.0}, "c": {0: 30.0}}
    runs = [
        finished(tmp_path / f"{name}-s{seed}", knn) for name, those in accuracies.items() for seed, knn in those.items()
    ]
    runs.append(finished(tmp_path / "pixels", 39.0))
    answer = compared(sslkit, *runs, "--seeds", "--baseline", tmp_path / "b")
    found = {row["run"]: row for row in answer["differences"]}
    # Differences 1, 2, 3: 2 -+ 4.3027 / sqrt(3).
    pairs = found["a"]
    assert (pairs["over"], pairs["pairs"], pairs["seeds"]) == ("seeds", 3, [2, 0, 1])
    assert (pairs["difference"], pairs["low"], pairs["high"]) == pytest.approx((2, -0.4841, 4.4841), abs=1e-3)
    assert pairs["seeds_needed"] == 5
    assert "only seed 0 is in both" in found["c-s0"]["not_comparable"]
    assert found["pixels"]["not_comparable"] == "no seed in common: pixels has none and b has 0, 1, 2"
    _, out, _ = sslkit("compare", *runs, "--seeds", "--baseline", tmp_path / "b-s1", "--markdown")
    assert "| a | k-NN top-1 | +2.00 | -0.48 to +4.48 | 0.074 | 5 | 3 pairs of seeds |" in out
    assert "Over seeds: other runs of the same two recipes" in out
    assert "Over test images" not in out


def trained(path: Path, log: list[dict], **train) -> Path:
    """A run that is training by a recipe, with this log."""
    config = {"train": {"batch_size": 60, **train}, "mask": None}
    write(Run(path), "pretrain", {}, config=config, status="running")
    Run(path).metrics.write_text("".join(json.dumps(row) + "\n" for row in log))
    return path


def test_minutes_to_an_accuracy_are_those_of_the_training_steps(sslkit, tmp_path: Path) -> None:
    log = [
        {"step": 10, "images_per_second": 10.0},  # 600 images: 60 s
        {"step": 12, "skipped": "not finite"},
        {"step": 20, "images_per_second": 20.0, "knn": 39.9},  # 30 s
        {"step": 30, "images_per_second": 5.0, "knn": 40.0},  # 120 s
        {"step": 40, "images_per_second": 5.0, "knn": 41.0},
    ]
    runs = [trained(tmp_path / "a-s0", log), trained(tmp_path / "a-s1", log[:3]), trained(tmp_path / "b-s0", log[:1])]
    with Run(runs[0]).metrics.open("a") as handle:
        handle.write('{"step": 50, "kn')  # being written
    rows = compared(sslkit, *runs, "--reach", 40)["runs"]
    assert [row["reach_minutes"] for row in rows] == [3.5, None, None]
    _, out, err = sslkit("compare", *runs, "--reach", 40, "--seeds")
    assert "min to 40 %" in out
    assert "3.5 (1 of 2)" in out
    assert err == "note: no k-NN was logged during training, so --reach has no answer for b-s0\n"
    assert compared(sslkit, runs[0], "--reach", 39.9)["runs"][0]["reach_minutes"] == 1.5
    assert "reach_minutes" not in compared(sslkit, runs[0])["runs"][0]


def test_recipe_keys_that_differ_are_a_table(sslkit, tmp_path: Path) -> None:
    runs = [trained(tmp_path / name, [], seed=seed) for name, seed in (("a", 0), ("b", 0))]
    config = {"train": {"batch_size": 64, "seed": 0}, "mask": {"ratio": [0.1, 0.5]}}
    write(Run(tmp_path / "c"), "pretrain", {}, config=config)
    runs.append(tmp_path / "c")
    assert compared(sslkit, *runs)["configs"] == {
        "mask.ratio": {"a": None, "b": None, "c": [0.1, 0.5]},
        "train.batch_size": {"a": 60, "b": 60, "c": 64},
    }
    table = ["recipe key        a   b   c", "mask.ratio        -   -   [0.1, 0.5]", "train.batch_size  60  60  64"]
    _, out, _ = sslkit("compare", *runs)
    assert out.splitlines()[-4:] == ["", *table]
    assert "recipe key" not in sslkit("compare", *runs, "--no-configs")[1]
    assert "recipe key" not in sslkit("compare", *runs, "--markdown")[1]
    assert "| train.batch_size | 60 | 60 | 64 |" in sslkit("compare", *runs, "--markdown", "--configs")[1]
    many = [finished(tmp_path / f"many-{i}", 40.0) for i in range(4)]
    assert "recipe key" not in sslkit("compare", *runs, *many)[1]
    assert "configs" not in compared(sslkit, *runs, "--no-configs")


def test_seeds_of_one_recipe_do_not_differ(sslkit, tmp_path: Path) -> None:
    runs = [trained(tmp_path / f"{n}-s{s}", [], seed=s, epochs=e) for n, e in (("a", 1), ("b", 2)) for s in (0, 1)]
    assert compared(sslkit, *runs, "--seeds")["configs"] == {"train.epochs": {"a": 1, "b": 2}}
    trained(tmp_path / "b-s2", [], seed=2, epochs=2)
    found = compared(sslkit, *runs, tmp_path / "b-s2", "--seeds")["configs"]
    assert found["train.seed"] == {"a": [0, 1], "b": [0, 1, 2]}


def test_csv_is_one_line_for_each_run(sslkit, tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / "a,b", [True, True, False]), evaluated(tmp_path / "c", [True, False, False])]
    finished(tmp_path / "d", None, 50.0, collapse={"dino": "uniform targets"})
    code, out, _ = sslkit("compare", *runs, tmp_path / "d", "--baseline", runs[1], "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["run"] for row in rows] == ["a,b", "c", "d"]
    assert rows[0]["knn"].startswith("66.6666666")
    assert float(rows[0]["knn difference"]) == pytest.approx(100 / 3)
    assert rows[0]["knn over"] == "test images"
    assert rows[1]["knn difference"] == rows[2]["knn"] == ""
    assert (rows[2]["collapse"], rows[2]["epochs"]) == ("dino: uniform targets", "2.0")


@pytest.mark.parametrize("words", [["--json", "--csv"], ["--csv", "--markdown"], ["--csv", "--configs"]])
def test_formats_that_exclude_each_other_are_wrong_usage(sslkit, tmp_path: Path, words: list[str]) -> None:
    code, out, err = sslkit("compare", finished(tmp_path / "a", 40.0), *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words[0] in err


def test_a_path_that_is_not_a_run_is_an_error(sslkit, tmp_path: Path) -> None:
    finished(tmp_path / "a", 40.0)
    (tmp_path / "empty").mkdir()
    for words in ([tmp_path / "empty"], [tmp_path / "a", "--baseline", tmp_path / "empty"]):
        code, out, err = sslkit("compare", *words)
        assert (code, out) == (1, "")
        assert "holds no results to compare" in err
    for more in ([], ["--seeds"]):
        code, out, err = sslkit("compare", tmp_path / "a", "--baseline", tmp_path / "none", *more)
        assert (code, out) == (1, "")
        assert "--baseline: no run directory at" in err
    code, out, err = sslkit("compare", tmp_path / "a", "runs/nothing")
    assert (code, out) == (1, "")
    assert err.startswith("sslkit: no run directory at runs/nothing")


def test_one_seed_in_common_gives_no_interval(sslkit, tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / name, [True, seed > 0, False]) for seed, name in enumerate(("a-s0", "a-s1", "b-s0"))]
    found = compared(sslkit, *runs, "--seeds", "--baseline", tmp_path / "b-s0")["differences"]
    assert len(found) == 1
    assert "only seed 0 is in both" in found[0]["not_comparable"]


def test_a_table_too_wide_for_a_terminal_is_transposed(sslkit, tmp_path: Path) -> None:
    run = Run(finished(tmp_path / "a", 40.0))
    for number in range(12):
        write(run, f"linear:labels-0.{number}", {"top1": 30.0 + number})
    _, out, _ = sslkit("compare", run.path)
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["run", "a"]
    assert ["linear,", "labels-0.11", "41.0"] in rows
    assert max(map(len, out.splitlines())) < 60


def test_results_of_an_encoder_that_was_retrained_are_noted(sslkit, tmp_path: Path) -> None:
    run, weights = Run(tmp_path / "a"), tmp_path / "a" / "weights"
    finished(run.path, None, 50.0)
    weights.write_text("old")
    write(run, "extract", {}, inputs={"weights": {"path": "weights", "sha256": sha256(weights)}}, outputs={}, config={})
    write(run, "knn", {"top1": 40.0, "k": 20}, inputs={"cls": {"path": "features/x", "sha256": sha256(weights)}})
    (run.features / "x").write_text("old")
    assert compared(sslkit, run.path)["notes"] == []
    weights.write_text("new")
    notes = compared(sslkit, run.path)["notes"]
    assert notes == [f"stale inputs of knn in {run.path}: see `sslkit status {run.path}`"]


def test_seeds_that_join_nothing_are_noted(sslkit, tmp_path: Path) -> None:
    runs = [finished(tmp_path / name, 40.0) for name in ("a-s0", "b-s0", "a-s1")]
    assert compared(sslkit, *runs, "--seeds")["notes"] == []
    assert "none of these are" in compared(sslkit, *runs[:2], "--seeds")["notes"][0]


def test_results_on_photos_do_not_depend_on_the_prepared_data(sslkit, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest").write_text(name)
        data = {"data": {"path": "manifest", "sha256": sha256(tmp_path / name / "manifest")}}
        run = Run(tmp_path / name)
        write(run, "extract", {}, inputs=data)
        config = {"photos": "digest", "protocols": [name], "image_size": 64}
        write(run, "segment:photos", {"headline": {"jaccard": 40.0}}, config=config)
    found = compared(sslkit, tmp_path / "a", tmp_path / "b", "--baseline", tmp_path / "b")
    assert found["notes"] == []
    assert found["differences"][0]["difference"] == 0


def test_a_comparison_without_a_baseline_loads_nothing_heavy(tmp_path: Path) -> None:
    runs = [str(finished(tmp_path / name, 40.0)) for name in "ab"]
    heavy = ("torch", "scipy", "numpy", "matplotlib", "sklearn")
    code = (
        "import sys, atexit; from stages.cli import main\n"
        f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules], file=sys.stderr)); main()"
    )
    words = [sys.executable, "-c", code, "compare", *runs, "--reach", "40"]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stderr == "[]\n"
