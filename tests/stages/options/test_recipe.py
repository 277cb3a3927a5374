"""Recipes on one command line that name different methods: an error that says so, and layers that are meant."""

from pathlib import Path

import pytest

OVER_DINO = """
method: {name: mae, decoder: {width: 24, depth: 1, heads: 3}}
heads: null
objectives: null
teacher: null
mask: {strategy: random, ratio: [0.75, 0.75], ratio_per: step, probability: 1.0}
views: {global: {count: 1}, augment: {blur: 0.0, solarize: 0.0}}
"""
TWO = "several recipes name a method (dino: joint_embedding, mae: mae)"


@pytest.fixture
def preview(sslkit, shapes_run, tiny_scale, tmp_path, monkeypatch):
    """Draws what recipes, with a tiny scale, would begin with: (exit code, standard error)."""
    monkeypatch.chdir(tmp_path)

    def draw(*recipes: str, command: str = "preview") -> tuple[int, str]:
        words = [word for recipe in (*recipes, tiny_scale) for word in ("--recipe", recipe)]
        words += ["--set", "views.local.count=0"]  # what the scale sets, the methods here do without
        code, _, err = sslkit(command, tmp_path / "run", "--data", shapes_run, *words, "--device", "cpu")
        return code, err

    return draw


@pytest.mark.parametrize("command", ["preview", "pretrain"])
def test_two_shipped_methods_that_contradict_each_other_are_named(preview, command):
    code, err = preview("dino", "mae", command=command)
    assert code == 2
    assert err == (
        f"sslkit: {TWO}: name only one of them; together they fail: method mae takes no heads: --set heads=null\n"
    )


def test_two_shipped_methods_that_happen_to_fit_are_said_to_be_mixed(preview):
    code, err = preview("mae", "dino")
    assert code == 0
    assert "several recipes name a method (mae: mae, dino: joint_embedding): the last one counts" in err


def test_a_file_may_change_the_method_of_the_recipe_before_it(preview):
    Path("mine.yaml").write_text(OVER_DINO)
    assert preview("dino", "mine.yaml") == (0, "")
    Path("half.yaml").write_text("method: mae")
    code, err = preview("dino", "half.yaml")
    assert code == 2
    assert "(dino: joint_embedding, half.yaml: mae): name only one of them; together they fail: method mae" in err


def test_a_base_is_no_second_recipe(preview):
    dino = Path(__file__).parents[3] / "stages" / "recipes" / "dino.yaml"
    Path("mine.yaml").write_text(f"base: {dino}\n{OVER_DINO}")
    assert preview("mine.yaml") == (0, "")
    Path("mine.yaml").write_text(f"base: {dino}\nmethod: mae\n")
    assert preview("mine.yaml") == (2, "sslkit: method mae takes no heads: --set heads=null\n")


def test_objectives_of_one_method_are_mixed_without_a_word(preview):
    code, err = preview("dino", "dino-koleo")
    assert (code, err) == (0, "")
