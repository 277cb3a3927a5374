"""The tables of .readme/measured.md that have kept results are printed from them."""

import json

import pytest
from benchmarks.evidence import KEPT, table
from conftest import ROOT

PAGE = (ROOT / ".readme" / "measured.md").read_text()


@pytest.mark.parametrize("experiment", json.loads(KEPT.read_text()))
def test_a_table_of_the_page_is_the_one_that_the_kept_results_give(experiment):
    assert table(experiment) in PAGE, f"python tests/benchmarks/evidence.py table {experiment}"
