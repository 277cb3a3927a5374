"""The demo's chain at its smallest: six stages and what is read from them afterwards, on images made on the fly."""

import json

import pytest

from sslkit import registry

QUICK = ["--device", "cpu", "--precision", "fp32"]


def test_the_six_stages_end_to_end(sslkit, tiny_scale, tmp_path):
    run = tmp_path / "run"
    chain = [
        ("prepare", "--per-class", 8, "--workers", 0),
        ("pretrain", "--recipe", "attmask", "--recipe", tiny_scale, *QUICK, "--workers", 0),
        ("extract", *QUICK, "--workers", 0),
        ("knn", "--k", 5),
        ("linear", "--epochs", 3, "--device", "cpu"),
        ("attn-viz", "--count", 2, "--masks", *QUICK),
    ]
    for stage, *words in chain:
        code, out, err = sslkit(stage, run, *words)
        assert code == 0 and out, (stage, err)
    for stage, *words in chain:
        code, _, err = sslkit(stage, run, *words)
        assert code == 0 and "up to date" in err, stage

    results = json.loads((run / "knn" / "results.json").read_text())
    assert {"top1", "top5", "k", "temperature", "sweep"} <= set(results) and 0 <= results["top1"] <= 100
    probe = json.loads((run / "linear" / "results.json").read_text())
    assert {"top1", "top5", "sweep"} <= set(probe)
    assert (run / "attention" / "index.html").stat().st_size > 1000

    _, out, _ = sslkit("status", run, "--json")
    stages = json.loads(out)["stages"]
    assert {s["state"] for s in stages.values()} == {"done"} and not any(s["stale"] for s in stages.values())
    _, out, _ = sslkit("compare", run, "--json")
    assert json.loads(out)["runs"][0]["knn"] == results["top1"]

    # The baselines, and what is stale after the encoder changed.
    for kind in ("random", "pixels"):
        words = ["--like", run, "--weights", kind, *QUICK, "--workers", 0]
        assert sslkit("extract", tmp_path / kind, *words)[0] == 0
        assert sslkit("knn", tmp_path / kind, "--k", 5)[0] == 0
    code, out, _ = sslkit("compare", tmp_path / "pixels", tmp_path / "random", run)
    assert code == 0 and len(out.splitlines()) == 4
    assert sslkit("pretrain", run, *chain[1][1:], "--seed", 1, "--force")[0] == 0
    _, out, _ = sslkit("status", run, "--json")
    stages = json.loads(out)["stages"]
    assert all(stages[stage]["stale"] for stage in ("extract", "knn", "linear", "attn-viz"))
    for stage, *words in (("knn", "--k", 5), ("embed", "--method", "pca")):  # features of the encoder before
        code, _, err = sslkit(stage, run, *words, "--force")
        assert code == 0
        assert "stage extract is stale: weights changed since; its files are used as they are" in err


@pytest.mark.parametrize("name", registry.names("sslkit.objectives"))
def test_every_objective_trains_alone_and_beside_dino(name, sslkit, shapes_run, tiny_scale, tmp_path):
    """Conformance: finite, logged under its name, weighted, and nothing of it left out of the optimizer."""
    for others in ("alone", "beside"):
        run = tmp_path / others
        # A teacher, masks, prototypes and a projector: whatever the objective needs is there.
        words = ["--data", shapes_run, "--recipe", "ibot-random", "--recipe", tiny_scale, *QUICK, "--workers", 0]
        words += ["--epochs", 1]
        settings = [f"objectives.{name}.weight=0.5", "heads.projector={kind: projector, out: 24, hidden: 32}"]
        settings += [f"objectives.{other}=null" for other in ("ibot", "dino") if other != name and others == "alone"]
        for setting in settings:
            words += ["--set", setting]
        code, _, err = sslkit("pretrain", run, *words)
        assert code == 0, err
        rows = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            weights = {"dino": 1.0, "ibot": 1.0, name: 0.5}
            terms = sum(weights[k] * row[f"{k}/loss"] for k in weights if f"{k}/loss" in row)
            assert row["loss"] == pytest.approx(terms, rel=1e-4, abs=1e-6)
