"""Recipes as people save them: other encodings, slips of the pen, and files made to do harm."""

import pytest

from sslkit.errors import UsageError
from sslkit.recipe.reading import parse, read
from sslkit.recipe.schema import resolve
from stages.inputs.recipes import find

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{later}: &{later} [{', '.join([f'*{earlier}'] * 9)}]\n"
    for earlier, later in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG = {
    "latin-1": ("# café\ntrain: {epochs: 5}\n".encode("latin-1"), "is not text in UTF-8"),
    "zeros": (b"train: {epochs: 5}\x00\n", "is not text in UTF-8"),
    "comments only": (b"# later\n", "is empty"),
    "list": (b"- train\n", "is not a mapping of sections"),
    "zero": (b"0\n", "is not a mapping of sections"),
    "section twice": (b"train: {epochs: 5}\ntrain: {seed: 1}\n", "the key 'train' stands twice, line 2"),
    "key twice": (b"train:\n  epochs: 5\n  epochs: 6\n", "the key 'epochs' stands twice, line 3"),
    "number as key": (b"train: {epochs: 5}\n1: 2\n", "the key '1' is not a word, line 2"),
    "truth as key": (b"on: {epochs: 5}\n", "the key 'on' is not a word, line 1"),
    "list as key": (b"? [a]\n: 1\n", "the key that is a list or a section is not a word, line 1"),
    "no colon": (b"train: epochs 5\n", "train is 'epochs 5', not a section of keys"),
    "no colon below": (
        b"views:\n  global: size 32\n",
        "views.global is a section of keys",
    ),
    "alias bomb": (BOMB.encode(), "aliases counted"),
    "in itself": (b"train: &t\n  epochs: *t\n", "aliases counted"),
    "deep": (b"[" * 5_000, "nested too deeply"),
    "object": (b"train: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "no such date": (b"train: {epochs: 2024-13-45}\n", "month must be in 1..12"),
    "many digits": (b"train: {seed: 1" + b"0" * 5000 + b"}\n", "4300 digits"),
    "two documents": (b"train: {epochs: 5}\n---\ntrain: {epochs: 6}\n", "found another document, line 2"),
    "large": (b"#" * 1_000_001, "over 1,000,000 bytes"),
    "yes": (b"train: {epochs: yes}\n", "train.epochs in the recipe: expected something other than yes"),
    "yes in a list": (
        b"optim: {weight_decay: [yes, 0.4]}\n",
        "weight_decay in the recipe: expected something other",
    ),
    "not a number": (b"train: {epochs: .nan}\n", "train.epochs in the recipe: input should be a finite number"),
    "infinite": (b"optim: {lr: .inf}\n", "optim.lr in the recipe: input should be a finite number"),
    "infinite text": (b"train: {epochs: 1e400}\n", "train.epochs in the recipe: input should be a finite number"),
    "huge": (b"train: {seed: 1000000000000000000000}\n", "train.seed in the recipe: expected a number below 2^63"),
    "blocks": (b"encoder: {depth: 100000000}\n", "encoder.depth in the recipe"),
    "prototypes": (b"heads: {prototypes: {out: 2000000000000}}\n", "heads.prototypes.out in the recipe"),
    "duration": (b"optim: {warmup_epochs: .nan}\n", "optim.warmup_epochs"),
    "duration in words": (b"optim: {warmup_epochs: ten}\n", "optim.warmup_epochs"),
    "duration as text": (b"optim: {warmup_epochs: nan%}\n", "optim.warmup_epochs"),
    "duration backwards": (b"optim: {warmup_epochs: -1}\n", "optim.warmup_epochs"),
}


@pytest.mark.parametrize("overrides", [[], ["train.accumulate=1", "views.global.count=2"]], ids=["alone", "overridden"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recipe_is_one_line_that_names_it(name, overrides, tmp_path):
    """The same whether or not a later setting touches the section."""
    data, message = WRONG[name]
    path = tmp_path / "own.yaml"
    path.write_bytes(data)
    with pytest.raises(UsageError) as error:
        resolve([find("dino"), path], overrides)
    said = str(error.value)
    assert message in said
    assert "\n" not in said
    assert len(said) < 400


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_recipe_with_a_byte_order_mark_is_read(encoding, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes("# café\ntrain: {epochs: 5}\n".encode(encoding))
    assert read(path) == {"train": {"epochs": 5}}


def test_anchors_save_typing():
    text = "views:\n  global: &crop {size: 32}\n  local: {<<: *crop, count: 2}\n"
    assert parse(text, "here") == {"views": {"global": {"size": 32}, "local": {"size": 32, "count": 2}}}


@pytest.mark.parametrize("assignment", ["=5", ".=5", "train..seed=5", "train.=5"])
def test_a_setting_without_a_key_is_refused(assignment):
    with pytest.raises(UsageError, match="names no key"):
        resolve([find("dino")], [assignment])


def test_a_setting_that_replaces_a_section_is_refused():
    with pytest.raises(UsageError, match="train is 5, not a section"):
        resolve([find("dino")], ["train=5"])
    with pytest.raises(UsageError, match=r"views.global is a section of keys; 5 cannot take its place"):
        resolve([find("dino")], ["views.global=5"])
