"""The house rules: small files and functions, folders that can be read at a glance, names that say one thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

FILES = sorted([*(ROOT / "sslkit").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])
TREES = {path: ast.parse(path.read_text()) for path in FILES}
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_FILES = 300, 60, 13  # a dozen files and __init__.py


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES
    for function in functions(TREES[path]):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MOST_LINES_OF_A_FUNCTION, f"{function.name} has {lines} lines"


def test_folders_are_small() -> None:
    """Plug-in folders and the stages grow with what they hold; each other room stays readable."""
    growing = {
        "masks",
        "objectives",
        "methods",
        "sources",
        "augmentations",
        "layouts",
        "formats",
        "panels",
        "loggers",
        "stages",
    }
    folders = Counter(path.parent for path in FILES)
    assert {folder for folder, count in folders.items() if count > MOST_FILES and folder.name not in growing} == set()


def test_a_class_name_means_one_thing() -> None:
    """Nested classes, such as each objective's ``Config``, are named by the outer class; private ones by their file."""
    names = Counter(node.name for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("_")] == []


def test_no_file_is_a_drawer() -> None:
    assert {path.name for path in FILES}.isdisjoint({"utils.py", "helpers.py", "common.py", "misc.py"})
