"""Recipes merge, refuse what they do not know, and say what is nearest."""

import re

import pytest
import yaml
from tiny_methods import RECIPES, SCALES

from sslkit.errors import UsageError
from sslkit.recipe.schema import Recipe, as_dict, dump, resolve
from sslkit.recipe.validation import validated
from stages.inputs.recipes import find, names


@pytest.mark.parametrize("method", RECIPES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_shipped_pair_resolves_and_survives_a_round_trip(method, scale):
    recipe = resolve([find(method), find(scale)])
    again = validated(Recipe, yaml.safe_load(dump(recipe)))
    assert as_dict(again) == as_dict(recipe)


def test_a_base_comes_before_its_recipe_and_after_what_was_named_before(tmp_path):
    (tmp_path / "first.yaml").write_text("train: {epochs: 7, batch_size: 8}\nheads?:\n  prototypes?: {out: 9}\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\ntrain: {epochs: 5}\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "third.yaml").write_text("base: ../second.yaml\ntrain: {seed: 3}\n")
    recipe = resolve([find("dino"), tmp_path / "deeper" / "third.yaml"], ["train.batch_size=4"])
    train, head = recipe.train, recipe.heads["prototypes"]
    assert (train.epochs, train.batch_size, train.seed, head.prototypes) == (5, 4, 3, 9)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("[a.yaml]", "base is the path of another recipe, relative to this one"),
        ("nowhere.yaml", "nowhere.yaml: No such file or directory"),
        ("own.yaml", "is its own base: own.yaml -> own.yaml"),
        ("../{folder}/own.yaml", "is its own base: own.yaml -> own.yaml"),
    ],
)
def test_a_base_that_is_none_is_named(base, message, tmp_path):
    (tmp_path / "own.yaml").write_text(f"base: {base.format(folder=tmp_path.name)}\n")
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve([tmp_path / "own.yaml"])


def test_small64_is_small32_at_twice_the_size():
    small32, small64 = (as_dict(resolve([find("dino"), find(name)])) for name in ("small32", "small64"))
    assert (small64["encoder"].pop("image_size"), small64["encoder"].pop("patch_size")) == (64, 8)
    assert (small32["encoder"].pop("image_size"), small32["encoder"].pop("patch_size")) == (32, 4)
    for crops in ("global", "local"):
        assert small64["views"][crops].pop("size") == 2 * small32["views"][crops].pop("size")
    assert small64 == small32


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
        ("mask={ration: 0.3}", "unknown key 'mask.ration' in the recipe: did you mean 'mask.ratio'?"),
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
        ("teacher.momentum=[0.5, 1.5]", "teacher.momentum in the recipe: '1.5' is not a momentum"),
        ("teacher.momentum=[0.5, 101%]", "'101%' is not a momentum"),
        ("teacher.momentum=[slow, 1]", "'slow' is not a momentum"),
        ("objectives.dino.teacher_temperature=[0, 0.04]", "greater than 0"),
        ("views.augment.gray=2", "less than or equal to 1"),
        ("method=may", "did you mean 'mae'?"),
        ("method={name: mae, decoder: {widht: 3}}", "did you mean 'method.decoder.width'?"),
        ("nonsense", "sets nothing"),
        ("a=[", "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_so(assignment, message):
    with pytest.raises(UsageError) as error:
        resolve([find("attmask"), find("small32")], [assignment])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_set_wins_over_recipes_and_null_takes_a_section_away():
    recipe = resolve([find("attmask"), find("small32")], ["mask=null", "objectives.ibot=null", "train.epochs=7"])
    assert recipe.mask is None
    assert list(recipe.objectives) == ["dino"]
    assert recipe.train.epochs == 7


@pytest.mark.parametrize("strategy", ["random", "block"])
def test_another_strategy_keeps_the_ratio_and_drops_what_it_does_not_know(strategy):
    mask = resolve([find("attmask"), find("small32")], [f"mask.strategy={strategy}", "mask.probability=0.7"]).mask
    assert mask is not None
    assert "order" not in mask.model_dump()
    assert mask.model_dump()["ratio_per"] == "step"
    assert mask.model_dump()["probability"] == 0.7
    # A key of one's own that the strategy does not know is still an error.
    with pytest.raises(UsageError, match=r"unknown key 'mask.order'"):
        resolve([find("attmask")], [f"mask={{strategy: {strategy}, order: low}}"])


@pytest.mark.parametrize(("word", "meant"), [("off", "off"), ("on", "on"), ("'off'", "off"), ("auto", "auto")])
def test_compile_is_switched_by_the_words_that_yaml_reads_as_truth(word, meant):
    assert resolve([find("mae")], [f"train.compile={word}"]).train.compile == meant
