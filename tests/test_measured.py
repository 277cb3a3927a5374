"""The tables of .readme/measured.md that have kept results are printed from them."""

import json

import pytest
from benchmarks import evidence
from benchmarks.evidence import KEPT, keep, table
from conftest import ROOT

PAGE = (ROOT / ".readme" / "measured.md").read_text()


@pytest.mark.parametrize("experiment", json.loads(KEPT.read_text()))
def test_a_table_of_the_page_is_the_one_that_the_kept_results_give(experiment):
    assert table(experiment) in PAGE, f"python tests/benchmarks/evidence.py table {experiment}"


@pytest.mark.parametrize("record", [{"status": "running"}, {"status": "interrupted", "how": {}}, None])
def test_a_run_that_has_not_ended_is_kept_with_what_its_log_says(record, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(evidence, "KEPT", tmp_path / "results.json")
    folder = tmp_path / "cut" / "pretrain"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"epoch": 1.0, "knn": 20.0, "dino/kl": 1.0}\n')
    if record:
        (folder / "stage.json").write_text(json.dumps(record))
    keep("try", [folder.parent])
    assert json.loads((tmp_path / "results.json").read_text()) == {"try": {"cut": {"online k-NN": [[1.0, 20.0]]}}}
    assert table("try").splitlines()[-1] == "| `cut` | - | - | - | - | - | - |"
