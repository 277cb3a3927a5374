"""The run directory: what runs are called."""

from pathlib import Path

from stages.contract.layout import Run


def test_pages_call_a_run_as_it_was_given():
    assert Run(Path("runs/a")).title == "runs/a"
    assert Run(Path("/somewhere/runs/a")).title == "a"
    assert Run(Path("runs/a/on/photos")).title == "runs/a on photos"
