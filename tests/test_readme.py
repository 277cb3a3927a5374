"""The README's examples, dropped into their folders as shown, pass what the shipped files pass."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import recipe_of
from conftest import ROOT

from sslkit import registry
from stages.contract.stage import stages

README = (ROOT / "README.md").read_text()
PAGES = (ROOT / "README.md", ROOT / ".readme" / "measured.md")
BLOCKS = re.findall(r"```python\n# (sslkit/\S+\.py)\n(.*?)```", README, re.DOTALL)
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", "0"]


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """Drop the README's example into its package's folder: path -> module name."""

    def drop(package: str) -> str:
        path, code = next((p, c) for p, c in BLOCKS if p.startswith(package.replace(".", "/")))
        assert len(code.splitlines()) < 40
        name = Path(path).stem
        folder = tmp_path / "dropped"
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)
        module = importlib.import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{package}.{name}", raising=False)
        return name

    return drop


def test_every_run_that_is_named_is_made_or_is_a_stand_in():
    """A run that only reads has nothing to read unless a command of the README made it."""
    words = [shlex.split(line, comments=True) for line in SHELL]
    made = {
        w for line in words for w in line if line[:1] != ["sslkit"] or line[1] in ("prepare", "pretrain", "extract")
    }
    named = {w for line in words for w in line if w.startswith("runs/")}
    assert {n for n in named - made if not n.endswith("*")} <= {
        "runs/dino-s0",
        "runs/dino-s1",
        "runs/dino-s2",
        "runs/dino",
    }


def test_the_three_examples_are_there():
    assert [path.rsplit("/", 1)[0] for path, _ in BLOCKS] == [
        "sslkit/masks",
        "sslkit/objectives",
        "sslkit/data/sources",
    ]


def test_the_mask_meets_the_conformance_of_masks(dropped):
    test_masks = importlib.import_module("tests.sslkit.masks.test_masks")

    name = dropped("sslkit.masks")
    assert name in registry.names("sslkit.masks")
    test_masks.test_counts_tell_the_truth_on_any_grid.hypothesis.inner_test(name, (7, 5), 3, 0.5)
    test_masks.test_a_mask_is_a_function_of_seed_step_sample_and_view(name)


def test_the_objective_meets_the_conformance_of_objectives(dropped, sslkit, shapes_run, tiny_scale, tmp_path):
    """It trains by itself, and mixes with DINO by weights."""
    test_chain = importlib.import_module("tests.stages.test_chain")

    name = dropped("sslkit.objectives")
    assert name in registry.names("sslkit.objectives")
    test_chain.test_every_objective_trains_alone_and_beside_dino(name, sslkit, shapes_run, tiny_scale, tmp_path)


def test_the_source_can_be_prepared(dropped, sslkit, tmp_path):
    name = dropped("sslkit.data.sources")
    source = registry.load("sslkit.data.sources", name)(None, 0)
    splits = source.splits()
    assert all(source.read(s, 0).label == labels[0] for s, labels in splits.items())
    code, _, err = sslkit("prepare", tmp_path / "run", "--source", name, "--workers", 0)
    assert code == 0, err
    from sslkit.data.shards import open_split

    split = open_split(tmp_path / "run" / "data", "train")
    assert len(split) == len(splits["train"]) and split.image(0).shape[0] == 3
    assert sorted(np.unique(split.labels)) == sorted(np.unique(splits["train"]))


def test_every_command_and_option_in_the_readme_exists(sslkit):
    lines = [line.split("#")[0].split("torchrun")[-1] for line in SHELL if "sslkit " in line]
    commands = [shlex.split(line[line.index("sslkit ") :]) for line in lines if "sslkit " in line]
    assert {words[1] for words in commands} >= {"prepare", "pretrain", "extract", "knn", "linear", "attn-viz", "status"}
    for words in commands:
        code, out, err = sslkit(*words[1:2], "--help")
        assert code == 0, (words, err)
        for option in (w.split("=")[0] for w in words if w.startswith("--")):
            assert option in out, f"`{' '.join(words)}`: {option}"


def test_every_recipe_named_in_the_readme_exists():
    from stages.inputs.recipes import names

    for line in SHELL:
        for recipe in re.findall(r"--recipe ([\w.-]+)", line):
            assert recipe in names() or recipe.endswith(".yaml")


def test_every_training_in_the_readme_resolves():
    """Its recipes, settings and architecture, as `sslkit pretrain` and `preview` read them."""
    lines = [line.split("#")[0] for line in SHELL if "--recipe" in line]
    assert len(lines) > 8
    for line in lines:
        words = shlex.split(line.split(";")[-2] if ";" in line else line)
        words = [word.replace("$s", "1") for word in words]
        assert recipe_of(words).train.epochs > 0, line


def test_the_help_and_the_readme_list_every_stage(sslkit):
    _, out, _ = sslkit("--help")
    listed = out.partition("Commands:")[2].split()
    for name in stages():
        assert name in listed
        assert f"sslkit {name}" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_a_page_links_to_exists_and_pictures_have_a_text(page):
    text = page.read_text()
    for alternative, target in re.findall(r"(!?\[[^\]]*\])\(([^)]+)\)", text):
        assert (page.parent / target).exists()
        assert len(alternative) > len("![]")
    for script in re.findall(r"stages/pipelines/\w+\.sh", text):
        assert (ROOT / script).is_file()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 250
