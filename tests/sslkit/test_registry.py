"""A file dropped into a plug-in folder is available by its name, with its keys, and nothing else is changed."""

import importlib
import sys
from pathlib import Path

import pytest

from sslkit import registry
from sslkit.errors import UsageError
from sslkit.recipe.schema import Recipe, as_dict, resolve, validated

ROOT = Path(__file__).parents[2]
FILES = {
    "sslkit.masks": """
from sslkit.masks.base import Masking

class Dropped(Masking):
    own: int = 3

    def choose(self, crops):
        raise NotImplementedError
""",
    "sslkit.heads": """
from torch import nn
from sslkit.heads.base import Head

class Dropped(Head):
    class Config(Head.Config):
        kind: str = "dropped"
        own: int = 3

        @property
        def embedding(self):
            return self.own

    def __init__(self, width, config, lender=None):
        super().__init__(width, config)
        self.layer = nn.Linear(width, config.own)

    def embed(self, tokens):
        return self.layer(tokens)
""",
    "sslkit.objectives": """
from sslkit.objectives.base import Objective, Term

class Dropped(Objective):
    class Config(Objective.Config):
        own: int = 3
        head: str | None = None

    def forward(self, scene):
        return Term(scene.student.cls.square().mean())
""",
    "sslkit.methods": """
from sslkit.methods.base import Classifying

class Dropped(Classifying):
    class Config(Classifying.Config):
        own: int = 3
""",
    "sslkit.optimizers": """
import torch
from sslkit.optimizers.base import Optimizer

class Dropped(Optimizer):
    name: str = "dropped"
    own: int = 3

    def make(self, groups):
        return torch.optim.Adam(groups, lr=0.0, fused=True)
""",
}
# Every folder of plug-ins: one whose base.py holds an abstract class.
PACKAGES = sorted(
    ".".join(path.relative_to(ROOT).parent.parts)
    for path in (ROOT / "sslkit").rglob("base.py")
    if "(ABC" in path.read_text() or ", ABC)" in path.read_text()
)
# Where a recipe names a plug-in of each folder.
SETTINGS = {
    "sslkit.masks": {"mask": {"strategy": "dropped"}},
    "sslkit.heads": {"heads": {"mine": {"kind": "dropped"}}},
    "sslkit.objectives": {"objectives": {"dropped": {}}},
    "sslkit.methods": {"method": "dropped"},
    "sslkit.optimizers": {"optim": {"name": "dropped"}},
}


@pytest.fixture
def drop(monkeypatch, tmp_path: Path):
    """Adds a file to a package for the duration of a test."""

    def put(package: str, source: str) -> None:
        (tmp_path / "dropped.py").write_text(source)
        found = importlib.import_module(package)
        monkeypatch.setattr(found, "__path__", [*found.__path__, str(tmp_path)])
        importlib.invalidate_caches()

    yield put
    for name in [name for name in sys.modules if name.endswith(".dropped")]:
        del sys.modules[name]


@pytest.mark.parametrize("package", FILES)
def test_a_dropped_file_is_a_plug_in_with_keys_of_its_own(drop, package):
    drop(package, FILES[package])
    assert "dropped" in registry.names(package)
    assert registry.load(package, "dropped").__name__ == "Dropped"
    recipe = validated(Recipe, SETTINGS[package])
    assert "'own': 3" in str(as_dict(recipe))
    path = next(iter(SETTINGS[package]))
    path += {"sslkit.heads": ".mine", "sslkit.objectives": ".dropped"}.get(package, "")
    named = {"method": "method={name: dropped, owm: 4}", "mask": "mask={strategy: dropped, owm: 4}"}
    named |= {"heads.mine": "heads.mine={kind: dropped, owm: 4}", "optim": "optim={name: dropped, owm: 4}"}
    with pytest.raises(UsageError, match=rf"unknown key '{path}.owm' in the recipe: did you mean '{path}.own'"):
        resolve([], [named.get(path, f"{path}.owm=4")])


def test_a_file_that_defines_no_class_or_two_is_refused(drop):
    drop("sslkit.masks", FILES["sslkit.masks"].replace("class Dropped", "class _Dropped"))
    with pytest.raises(UsageError, match="defines 0 public Masking classes; it must define exactly one"):
        registry.load("sslkit.masks", "dropped")


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(UsageError, match="no mask named 'atention': did you mean 'attention'"):
        registry.load("sslkit.masks", "atention")


@pytest.mark.parametrize("package", PACKAGES)
def test_one_plug_in_that_is_not_there_is_named_in_the_singular(package):
    kind = package.rpartition(".")[2]
    assert kind.endswith("s")
    with pytest.raises(UsageError, match=rf"^no {kind[:-1]} named 'zzz': "):
        registry.load(package, "zzz")


def test_names_are_listed_without_importing_the_files(drop):
    drop("sslkit.masks", "raise RuntimeError('imported')")
    assert "dropped" in registry.names("sslkit.masks")
    assert "base" not in registry.names("sslkit.masks")
