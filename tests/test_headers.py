"""The accuracies in the comments of recipes are those of the kept results, made with the settings next to them."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from statistics import fmean
from typing import Any

import pytest
from benchmarks.evidence import KEPT, by_seed
from commands import recipe_of
from conftest import ROOT

from sslkit.recipe.schema import as_dict
from stages.inputs.recipes import find, names

RESULTS = json.loads(KEPT.read_text())
NUMBERS = ("no", "one", "two", "three", "four", "five")
AS_IT_WAS = "teacher.momentum=[0.99,1]"  # in small32 and small64 when the runs below were made,
AS_IT_IS = {"mae-dino-now", "mae-dino-koleo"}  # all but these
PUBLISHED = re.compile(r"[^:;]*\(the authors'[^)]*\)")


@dataclass(frozen=True)
class Stated:
    """A recipe's words around figures, and the kept runs whose figures they are.

    ``{knn}`` and ``{linear}`` stand for the accuracy of each run, ``{knn_mean}`` and ``{linear_mean}`` for means of the
    unrounded ones, ``{seeds}`` for how many there are. Words with ``{epochs}`` are about runs that the recipe itself
    trained, with the settings that its header gives. A run is named, or all seeds of a name are.
    """

    recipe: str
    words: str
    experiment: str
    runs: tuple[str, ...]

    def kept(self) -> list[dict[str, Any]]:
        """The results of its runs, stage by stage."""
        kept = RESULTS[self.experiment]
        seeds = by_seed(kept)
        return [one for name in self.runs for one in ([kept[name]] if name in kept else seeds[name].values())]

    def filled(self) -> str:
        """The words with the kept figures."""
        runs = self.kept()
        places = {"seeds": f"{NUMBERS[len(runs)]} seed{'s' if len(runs) > 1 else ''}"}
        if training := runs[0].get("pretrain"):
            places["epochs"] = f"{training['epochs']:.0f}"
        for stage in ("knn", "linear"):
            if all(stage in one for one in runs):
                values = [one[stage]["top1"] for one in runs]
                places[stage] = ", ".join(f"{value:.1f}" for value in values)
                places[f"{stage}_mean"] = f"{fmean(values):.1f}"
        return self.words.format_map(places)


def _family() -> Iterator[Stated]:
    for recipe in ("dino", "ibot-random", "attmask", "dino-barlow-joint"):
        yield Stated(recipe, "{epochs} epochs: k-NN {knn}, linear {linear} ({seeds};", "long", (recipe,))
        yield Stated(recipe, "{epochs} epochs from an MAE: k-NN {knn}, linear {linear} (", "long", (f"mae-{recipe}",))
        yield Stated(recipe, "pixels {knn}, {linear})", "long", ("pixels",))
        yield Stated(recipe, "the MAE {knn}, {linear})", "long", ("mae",))


def _masks() -> Iterator[Stated]:
    words = "{epochs} epochs from an MAE: k-NN {knn_mean}, linear {linear_mean} (means of {seeds};"
    for recipe in ("attmask-hint", "attmask-low"):
        yield Stated(recipe, words, "photos-masks", (recipe,))
        yield Stated(recipe, "random masks {knn_mean}, {linear_mean})", "photos-masks", ("ibot-random",))


def _sweep() -> Iterator[Stated]:
    several = "batch-64, momentum-constant, "
    for words, run in (
        ("measured.md): {}.", "base"),
        ("larger crops (views.global.scale=[0.5,1]) give {},", "larger-crops"),
        ("half the rate {},", "lr-0.5x"),
        ("KoLeo (`dino-koleo`) {};", "koleo"),
        ("KoLeo gives {} ({{seeds}}),", f"{several}koleo"),
        ("crops and rate {} ({{seeds}}),", f"{several}lr-0.5x, larger-crops"),
        ("all three {} ({{seeds}}).", f"{several}koleo, lr-0.5x, larger-crops"),
        ("Patch 4 has {}", "patch-4"),
        ("with two {},", "local-2"),
        ("with four {})", "local-4"),
        ("constant {},", "momentum-constant"),
        ("from 0.996 to 1 {}.", "momentum-0.996"),
        ("Without BatchNorm {};", "no-batch-norm"),
        ("0.07 throughout: {})", "teacher-0.07"),
        ("Batches of 128, {},", "base"),
        ("of 64 {},", "batch-64"),
        ("of 32 {},", "batch-32"),
    ):
        yield Stated("small32", words.format("{knn_mean} / {linear_mean}"), "sweep", (run,))


STATED = [
    *_family(),
    *_masks(),
    *_sweep(),
    Stated("small32", "constant gives {knn} / {linear} ({seeds});", "long", ("mae-dino-now-s0",)),
    Stated("mae", "{epochs} epochs: k-NN {knn}, linear {linear} ({seeds};", "long", ("mae",)),
    Stated("mae", "pixels {knn}, {linear})", "long", ("pixels",)),
    Stated("dino-sinkhorn", "{epochs} epochs, on held-out train images:", "sweep", ("sinkhorn",)),
    Stated("dino-sinkhorn", "k-NN {knn_mean}, linear {linear_mean} (means of {seeds};", "sweep", ("sinkhorn",)),
    Stated("dino-sinkhorn", "`dino` {knn_mean}, {linear_mean})", "sweep", ("base",)),
    Stated("dino-koleo", "{epochs} epochs from an MAE", "start", ("momentum-constant, koleo",)),
    Stated("dino-koleo", "of {knn} / {linear}:", "long", ("mae",)),
    Stated("dino-koleo", "k-NN {knn}, linear {linear} ({seeds};", "start", ("momentum-constant, koleo",)),
    Stated("dino-koleo", "`dino` {knn}, {linear});", "start", ("momentum-constant",)),
    Stated("dino-koleo", "{epochs} epochs from it: k-NN {knn}, linear {linear} ({seeds};", "long", ("mae-dino-koleo",)),
    Stated("dino-koleo", "`dino` {knn}, {linear}):", "long", ("mae-dino-now",)),
    Stated("dino-barlow-shared", "{epochs} epochs from an MAE", "knobs", ("full.dino-barlow-shared",)),
    Stated("dino-barlow-shared", "of {knn}:", "long", ("mae",)),
    Stated("dino-barlow-shared", "k-NN {knn} ({seeds};", "knobs", ("full.dino-barlow-shared",)),
    Stated("dino-barlow-shared", "joint {knn})", "knobs", ("full.dino-barlow-joint-s1", "full.dino-barlow-joint-s2")),
]

# Figures of runs that were not kept: rows of the page, and words that only the recipe has.
ROWS = {f"attmask-{name}": f"attention_{name}" for name in ("distill", "pool", "weighted")} | {
    "attmask-diversity": "head_diversity"
}
NOWHERE_ELSE = {"demo": "38.2 from 0.99, 38.6 from 0.98, 49.0 from 0.96"}


def comments(recipe: str) -> str:
    """Its comments, a line each, without their signs."""
    lines = find(recipe).read_text().splitlines()
    return "\n".join(line.partition("#")[2].strip() for line in lines if "#" in line)


def stated(recipe: str) -> list[str]:
    """All words with figures that a recipe must have."""
    words = [one.filled() for one in STATED if one.recipe == recipe]
    if recipe in ROWS:
        page = (ROOT / ".readme" / "measured.md").read_text()
        (cells,) = re.findall(rf"^\| `{ROWS[recipe]}`.*? \| (.*?) \| (.*?) \|", page, re.MULTILINE)
        words.append("k-NN {}, against attmask with the same seeds {}:".format(*cells))
    if recipe in NOWHERE_ELSE:
        words.append(NOWHERE_ELSE[recipe])
    return words


def unstated(text: str) -> list[str]:
    """The figures in comments: percentages, and next to the name of a probe all numbers with one decimal."""
    found = []
    for line in re.sub(r"\S+=\S+", "", PUBLISHED.sub("", text)).splitlines():
        digits = r"\d+" if re.search("k-NN|linear", line) else r"\d\d+"
        found += re.findall(rf"(?<![\w.]){digits}\.\d(?![\w.])", line)
    return found


@pytest.mark.parametrize("recipe", names())
def test_every_figure_of_a_recipe_is_one_of_the_kept_results(recipe):
    text = rest = comments(recipe)
    for words in stated(recipe):
        pattern = r"\s+".join(map(re.escape, words.split()))
        assert re.search(pattern, text), f"{recipe}.yaml does not say: {words}"
        rest = re.sub(pattern, "", rest)
    assert not unstated(rest), f"{recipe}.yaml: say in {__file__} which runs these are of"


def test_small32_s_means_are_over_two_seeds_where_it_does_not_say_how_many():
    assert "means of two seeds unless stated otherwise" in comments("small32")
    silent = [one for one in STATED if one.recipe == "small32" and "{seeds}" not in one.words]
    assert {len(one.kept()) for one in silent} == {2}


def made_with(recipe: str) -> list[str]:
    """The options that its header says its figures were made with."""
    words = comments(recipe).partition("Made with ")[2].split()
    options = takewhile(lambda pair: pair[0].startswith("--"), zip(words[::2], words[1::2], strict=False))
    return ["--recipe", recipe, *chain.from_iterable(options)]


def settings(words: list[str], *before: str) -> dict[str, Any]:
    """What a command trains, without its length, its seed and what changes no result."""
    recipe = as_dict(recipe_of(words, *before))
    del recipe["monitor"]
    for key in ("epochs", "seed", "compile"):
        del recipe["train"][key]
    return recipe


@pytest.mark.parametrize("recipe", [name for name in names() if "Made with" in comments(name)])
def test_the_settings_of_a_header_are_those_of_its_runs(recipe):
    made = settings(made_with(recipe))  # resolves, also where no command was kept
    for one in STATED:
        if one.recipe == recipe and "{epochs}" in one.words:
            for run in one.kept():
                command = shlex.split(run["pretrain"]["command"])
                before = [AS_IT_WAS] if recipe_of(command).teacher and not AS_IT_IS & {*one.runs} else []
                assert made == settings(command, *before), one.words


def test_a_header_with_figures_of_a_run_says_how_to_make_it():
    stating = {one.recipe for one in STATED if "{epochs}" in one.words} | ROWS.keys()
    assert stating == {name for name in names() if "Made with" in comments(name)}
