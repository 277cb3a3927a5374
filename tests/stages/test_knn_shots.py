"""``sslkit knn --shots``: what it writes, and mistakes."""

import json

import numpy as np
import pytest
from conftest import read_npz, write_features
from feature_blobs import blobs, in_memory

from sslkit.probes.classify.few_shot import few_shot


def test_command(tmp_path, sslkit):
    run = write_features(
        tmp_path,
        blobs(120, 3, 0, balanced=True),
        blobs(60, 3, 1, balanced=True),
    )
    code, out, _ = sslkit("knn", run, "--shots", "20,1", "--draws", 5, "--json")
    results = json.loads(out)
    assert code == 0 and [row["shots"] for row in results["shots"]] == [1, 20]
    direct = few_shot(
        in_memory(*blobs(120, 3, 0, balanced=True)),
        in_memory(*blobs(60, 3, 1, balanced=True)),
        [1, 20],
        5,
        0,
    )
    half = 2.7764 * direct.top1.std(1, ddof=1) / np.sqrt(5)  # Student's t with 4 degrees of freedom
    for row, mean, interval in zip(results["shots"], direct.top1.mean(1), half, strict=True):
        assert (row["top1"], row["draws"]) == (pytest.approx(mean), 5)
        assert row["interval"] == pytest.approx(interval, rel=1e-4)
    assert results["top1"] == results["shots"][1]["top1"] > results["shots"][0]["top1"]
    assert json.loads((run / "knn-shots/results.json").read_text()) == results
    saved = read_npz(run / "knn-shots/predictions.npz")
    assert saved["predicted"].tolist() == direct.predicted.tolist() and saved["rows"].tolist() == list(range(60))
    assert not (run / "knn").exists() and "up to date" in sslkit("knn", run, "--shots", "1,20", "--draws", 5)[2]
    code, _, err = sslkit("knn", run, "--shots", "1,2", "--draws", 5)
    assert code == 1 and "--force redoes it" in err


def test_one_draw_has_no_interval(tmp_path, sslkit):
    run = write_features(
        tmp_path,
        blobs(120, 3, 0, balanced=True),
        blobs(60, 3, 1, balanced=True),
    )
    code, out, _ = sslkit("knn", run, "--shots", "1", "--draws", 1)
    assert code == 0 and "±" not in out
    assert json.loads((run / "knn-shots/results.json").read_text())["shots"][0]["interval"] is None


@pytest.mark.parametrize(
    ("words", "expected", "says"),
    [
        (["--shots", "none"], 2, "such as 1,5,10"),
        (["--shots", "0,1"], 2, "such as 1,5,10"),
        (["--shots", "1", "--k", 5], 2, "leave out --k and --label-fraction"),
        (["--shots", "50"], 1, "has only 40 labelled images"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, sslkit, words, expected, says):
    run = write_features(
        tmp_path,
        blobs(120, 3, 0, balanced=True),
        blobs(60, 3, 1, balanced=True),
    )
    code, out, err = sslkit("knn", run, *words)
    assert code == expected and not out
    assert says in err and err.count("\n") == 1, err
