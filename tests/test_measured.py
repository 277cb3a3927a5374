"""The tables of .readme/measured.md that have kept results are printed from them."""

import json

import pytest
from benchmarks.evidence import KEPT, table
from conftest import ROOT

PAGE = (ROOT / ".readme" / "measured.md").read_text()


@pytest.mark.parametrize("experiment", json.loads(KEPT.read_text()))
def test_a_table_of_the_page_is_the_one_that_the_kept_results_give(experiment):
    assert table(experiment) in PAGE, f"python tests/benchmarks/evidence.py table {experiment}"


def test_a_recipe_s_header_states_what_the_kept_results_say():
    kept = json.loads(KEPT.read_text())["long"]
    for name in ("dino", "ibot-random", "attmask", "dino-barlow-joint", "mae"):
        header = (ROOT / "stages" / "recipes" / f"{name}.yaml").read_text().split("method:")[0]
        runs = [stages for run, stages in kept.items() if run.removesuffix("-s0").removesuffix("-s1") == name]
        knn, linear = (", ".join(f"{run[stage]['top1']:.1f}" for run in runs) for stage in ("knn", "linear"))
        assert f"k-NN {knn}, linear {linear}" in header, name
