"""Recipes merge, refuse what they do not know, and say what is nearest."""

import doctest
import importlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sslkit.errors import UsageError
from sslkit.recipe.merging import merge, override
from sslkit.recipe.schema import Recipe, as_dict, dump, resolve
from sslkit.recipe.validation import validated
from sslkit.schedules import Moment, cosine, in_epochs, linear, warmup_cosine
from stages.inputs.recipes import find, names

SCALES = ["demo", "small32", "imagenet-subset", "imagenet"]
METHODS = sorted(set(names()) - set(SCALES))
# As in recipes, a key is either a value or a section, the same in every file.
values = st.dictionaries(st.sampled_from("abc"), st.integers() | st.lists(st.integers()))
sections = st.recursive(
    values,
    lambda below: st.builds(
        lambda own, inner: {**own, **inner}, values, st.dictionaries(st.sampled_from("xyz"), below)
    ),
    max_leaves=8,
)


@given(sections, sections, sections)
def test_merging_is_associative_and_the_right_side_wins(a, b, c):
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a and merge({}, a) == a
    for key, value in b.items():
        if not isinstance(value, dict):
            assert merge(a, b)[key] == value


def test_a_question_mark_touches_only_what_is_there():
    scale = {"heads?": {"prototypes?": {"out": 3}, "other?": {"out": 4}}}
    assert merge({"heads": {"prototypes": {"out": 1, "hidden": 2}}}, scale) == {
        "heads": {"prototypes": {"out": 3, "hidden": 2}}
    }
    assert merge({}, scale) == {}
    assert merge({"teacher": None}, {"teacher?": {"momentum": 1}}) == {"teacher": None}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_shipped_pair_resolves_and_survives_a_round_trip(method, scale):
    recipe = resolve([find(method), find(scale)])
    again = validated(Recipe, yaml.safe_load(dump(recipe)))
    assert as_dict(again) == as_dict(recipe)


@pytest.mark.parametrize("name", names())
def test_a_recipe_says_what_it_is_how_to_run_it_and_what_to_expect(name):
    header = [line for line in find(name).read_text().splitlines() if line.startswith("#")]
    assert header[0].startswith("# Scale: ") == (name in SCALES)
    wanted = ("# Run time:",) if name in SCALES else ("# Paper:", "# Expected:")
    for start in ("# Command:", *wanted):
        assert any(line.startswith(start) for line in header), start


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("mask.rato=1", "unknown key 'mask.rato' in the recipe: did you mean 'mask.ratio'?"),
        ("objectives.dino.temprature_warmup_epochs=1", "did you mean 'objectives.dino.temperature_warmup_epochs'?"),
        ("train.epoch=1", "unknown key 'train.epoch' in the recipe: did you mean 'train.epochs'?"),
        ("views.globl.size=1", "unknown key 'views.globl' in the recipe: did you mean 'views.global'?"),
        ("views.global.sise=1", "did you mean 'views.global.size'?"),
        ("heads.prototypes.outt=1", "did you mean 'heads.prototypes.out'?"),
        ("optimm.lr=1", "did you mean 'optim'?"),
        ("train.epochs=many", "train.epochs in the recipe: input should be a valid number"),
        ("train.epochs=-1", "greater than 0"),
        ("mask.strategy=atention", "did you mean 'attention'?"),
        ("objectives.dyno.weight=1", "did you mean 'dino'?"),
        ("objectives.dino.head=prototype", "did you mean 'prototypes'?"),
        ("optim.warmup_epochs=200", "optim.warmup_epochs of 200.0 epochs exceeds the run of 100"),
        ("optim.warmup_epochs=soon", "'soon' is not a duration"),
        ("train.accumulate=7", "is not a multiple of accumulate"),
        ("heads.more.trunk=nowhere", "heads.more.trunk is 'nowhere': name a dino head that has no trunk itself"),
        ("heads={prototypes: {}, a: {trunk: prototypes}, b: {trunk: a}}", "heads.b.trunk is 'a'"),
        ("heads.prototypes.kind=dyno", "did you mean 'dino'?"),
        ("monitor.grace=200", "monitor.grace of 200.0 epochs exceeds the run of 100"),
        ("teacher.momentum=[0.5, 1.5]", "less than or equal to 1"),
        ("objectives.dino.teacher_temperature=[0, 0.04]", "greater than 0"),
        ("views.augment.gray=2", "less than or equal to 1"),
        ("method=may", "did you mean 'mae'?"),
        ("method={name: mae, decoder: {widht: 3}}", "did you mean 'method.decoder.width'?"),
        ("nonsense", "sets nothing"),
        ("a=[", "not a YAML value"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_so(assignment, message):
    with pytest.raises(UsageError) as error:
        resolve([find("attmask"), find("small32")], [assignment])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_set_wins_over_recipes_and_null_takes_a_section_away():
    recipe = resolve([find("attmask"), find("small32")], ["mask=null", "objectives.ibot=null", "train.epochs=7"])
    assert recipe.mask is None and list(recipe.objectives) == ["dino"] and recipe.train.epochs == 7


@pytest.mark.parametrize("strategy", ["random", "block"])
def test_another_strategy_keeps_the_ratio_and_drops_what_it_does_not_know(strategy):
    mask = resolve([find("attmask"), find("small32")], [f"mask.strategy={strategy}", "mask.probability=0.7"]).mask
    assert mask is not None and "order" not in mask.model_dump()
    assert mask.model_dump()["ratio_per"] == "step" and mask.model_dump()["probability"] == 0.7
    # A key of one's own that the strategy does not know is still an error.
    with pytest.raises(UsageError, match=r"unknown key 'mask.order'"):
        resolve([find("attmask")], [f"mask={{strategy: {strategy}, order: low}}"])


def test_override_reads_yaml():
    assert override({}, "a.b=[1, 10%]") == {"a": {"b": [1, "10%"]}}


def test_durations_are_epochs_or_shares():
    assert in_epochs("10%", 200) == 20 and in_epochs(3, 200) == 3


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_schedules_stay_between_their_ends(step, start, end):
    at = Moment(step, steps_per_epoch=10, epochs=100)
    low, high = min(start, end) - 1e-9, max(start, end) + 1e-9
    assert low <= cosine(start, end, step / 1000) <= high
    assert low <= linear(start, end, "30%", at) <= high
    assert 0 <= warmup_cosine(1.0, 0.0, "10%", at) <= 1


def test_warmup_rises_to_the_peak_and_the_cosine_ends_at_the_end():
    lr = [warmup_cosine(2.0, 0.5, 10, Moment(step, 5, 100)) for step in range(501)]
    assert lr[0] == 0 and lr[25] == pytest.approx(1.0) and lr[50] == 2.0 and lr[500] == pytest.approx(0.5)
    assert lr[:51] == sorted(lr[:51]) and lr[50:] == sorted(lr[50:], reverse=True)
    assert lr[275] == pytest.approx(1.25)  # half way down the cosine


def test_a_run_of_few_steps_comes_to_the_peak():
    for warmup in (10, "100%", "10%", 1, 0):
        for steps in (1, 2, 3, 9, 30):
            lr = [warmup_cosine(2.0, 0.0, warmup, Moment(step, steps, 1)) for step in range(steps)]
            assert max(lr) == pytest.approx(2.0) and sum(rate == 0 for rate in lr) <= (warmup != 0)
    assert [warmup_cosine(2.0, 0.0, "10%", Moment(step, 1, 1)) for step in range(1)] == [2.0]


@pytest.mark.parametrize("module", ["errors", "rng", "schedules", "recipe.merging"])
def test_docstring_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"sslkit.{module}"))
    assert found.attempted and not found.failed
