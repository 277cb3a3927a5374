"""The examples in docstrings are true."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["errors", "rng", "schedules", "recipe.merging"])
def test_docstring_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"sslkit.{module}"))
    assert found.attempted
    assert not found.failed
