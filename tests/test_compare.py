"""`sslkit compare`: one table, seeds with their interval."""

import json
from pathlib import Path

import pytest

from sslkit.files import write_json
from stages.run import Run
from stages.seeds import grouped, interval, t_quantile


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


def write(run: Run, stage: str, results: dict, seconds: float = 1.0, memory: int = 10) -> None:
    run.folder(stage).mkdir(parents=True)
    record = {"status": "done", "results": results, "seconds": seconds, "peak_memory_mb": memory, "inputs": {}}
    write_json(run.folder(stage) / "stage.json", record)


def test_intervals_are_students() -> None:
    # By hand: mean 2, standard deviation 1, 4.3027 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(2.4842, abs=1e-4))
    assert interval([5.0]) == (5.0, None)
    # From a printed table of the distribution.
    for freedom, quantile in (
        (1, 12.706),
        (4, 2.776),
        (10, 2.228),
        (11, 2.201),
        (15, 2.131),
        (30, 2.042),
        (120, 1.980),
    ):
        assert t_quantile(freedom) == pytest.approx(quantile, abs=0.003)


def test_names_tell_runs_apart_and_seeds_are_taken_together(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / name for name in ("a-s0", "a-s1", "b", "c-s3")]
    assert list(grouped(paths, by_seed=False)) == ["a-s0", "a-s1", "b", "c-s3"]
    # One seed alone is no group.
    assert {name: len(found) for name, found in grouped(paths, by_seed=True).items()} == {"a": 2, "b": 1, "c-s3": 1}
    assert list(grouped([*paths[:2], tmp_path / "x" / "a"], by_seed=True)) == ["a-s*", "a"]
    others = [tmp_path / folder / f"a-s{seed}" for folder in "xy" for seed in (0, 1)]
    assert list(grouped(others, by_seed=True)) == ["x/a", "y/a"]
    assert len(grouped([paths[0], paths[0]], by_seed=True)) == 1


def test_the_table_has_memory_and_tells_of_collapse_only_where_there_is_one(sslkit, tmp_path: Path) -> None:
    runs = [finished(tmp_path / "good", 44.5, 50.0, collapse={}), finished(tmp_path / "old", 40.0, loss=1.0)]
    code, out, err = sslkit("compare", *runs, finished(tmp_path / "pixels", 39.0))
    header, *rows = out.splitlines()
    assert (code, err) == (0, "")
    assert header.endswith("images/s  peak MB") and "collapse" not in out
    assert rows[0].split() == ["good", "44.5", "50.0", "2.0", "2.0", "100.0", "1800"]
    assert rows[2].split() == ["pixels", "39.0", "-", "-", "-", "-", "-"]
    bad = finished(tmp_path / "bad", 20.0, collapse={"dino": "uniform targets", "features": "features alike"})
    _, out, _ = sslkit("compare", *runs, bad)
    header, *rows = out.splitlines()
    assert header.endswith("collapse") and rows[0].endswith(" -")
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
    assert second.split()[:3] == ["b-s0", "30.0", "31.0"] and "±" not in second
    _, out, _ = sslkit("compare", *runs, "--seeds", "--json")
    row = json.loads(out)[0]
    assert row["seeds"] == 3 and row["knn"] == 45.0 and row["knn_interval"] == pytest.approx(2.484, abs=1e-3)
    assert row["peak_memory_mb"] == 1800


def test_a_markdown_table(sslkit, tmp_path: Path) -> None:
    _, out, _ = sslkit("compare", finished(tmp_path / "a|b", 44.5), "--markdown")
    assert out.splitlines() == [
        "| run | k-NN top-1 | linear top-1 | epochs | minutes | images/s | peak MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| a\\|b | 44.5 | - | - | - | - | - |",
    ]


def test_runs_at_different_k_are_remarked(sslkit, tmp_path: Path) -> None:
    runs = [finished(tmp_path / "a", 44.5), tmp_path / "b"]
    write(Run(runs[1]), "knn", {"top1": 40.0, "k": 10})
    _, _, err = sslkit("compare", *runs)
    assert err == "note: k-NN at different k, which do not compare: a 20, b 10\n"
