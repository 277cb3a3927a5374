"""Facts about a run for a report: how it was trained, on which data, and whether it collapsed."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from sslkit.artifacts import read_rows, read_text
from sslkit.errors import SslkitError
from stages.contract.absent import no_run
from stages.contract.layout import FEATURES, PRETRAIN, Result, Run
from stages.evaluations.members import Member, read_member
from stages.evaluations.results import StageResult
from stages.evaluations.tables import collapse_words
from stages.reporting.dataset import data_name

LONGEST_WORD = 40  # letters of a value in a table of numbers
BASELINES = {
    "random": "randomly initialised encoder",
    "pixels": "raw pixels",
    "timm": "timm's weights",
    "file": "weights from a file",
}


class RunFacts(Member):
    """A run, and what a report tells about it."""

    def stage_in(self, folder: str) -> StageResult | None:
        """The stage that writes this folder of a run, on the run's own data; None if it never ran."""
        return next((s for s in self.stages if s.declared.folder == folder and not s.on and s.record), None)

    @cached_property
    def recipe_text(self) -> str:
        """The recipe as it is on disk; empty without one."""
        return read_text(self.run.need(self.run.recipe)) if self.recipe and self.run.recipe.exists() else ""

    @cached_property
    def log(self) -> list[Result]:
        """What was logged during training so far."""
        return read_rows(self.run.checked(self.run.metrics)) if self.stage_in(PRETRAIN) else []

    @property
    def trained(self) -> Result:
        """The results of its training run; empty if that is not done."""
        stage = self.stage_in(PRETRAIN)
        return stage.results if stage else {}

    @cached_property
    def warnings(self) -> list[str]:
        """The warnings of its training run; of those that differ only in their numbers, the last."""
        logged = [words for row in self.log for words in row.get("warnings") or []]
        kinds: dict[str, list[str]] = {}
        for words in [*(self.trained.get("warnings") or []), *logged]:
            kinds.setdefault(re.sub(r"[\d.]+", "", words), []).append(words)
        return [words[-1] for words in kinds.values()]

    def signal(self) -> tuple[str, str]:
        """The training signal: its recipes by name, and their objectives and mask; or which baseline it is."""
        if not self.recipe:
            kind = self._extraction.get("weights")
            return BASELINES.get(str(kind), "-"), "no training" if kind else ""
        method = self.recipe["method"]["name"].replace("_", " ")
        objectives = self.recipe.get("objectives") or {}
        weights = {name: (terms or {}).get("weight", 1) for name, terms in objectives.items()}
        terms = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items())
        mask = self.recipe.get("mask") or {}
        order = f" ({mask['order']})" if mask.get("strategy") == "attention" and mask.get("order") else ""
        hidden = f"{mask['strategy']} masks{order}" if mask.get("strategy") else ""
        about = ", ".join(filter(None, [terms or method, hidden]))
        recipes = (self.training.get("how") or {}).get("recipes") or [method]
        return ", ".join(Path(name).stem for name in recipes), about

    def dataset(self) -> tuple[str, str]:
        """The name of its data, and the numbers of images and classes."""
        if not self.run.manifest.exists():
            return "-", ""
        manifest = self.run.prepared()
        counts = [f"{facts['samples']:,} {split}" for split, facts in manifest["splits"].items()]
        return data_name(self.run), f"{' + '.join(counts)} images, {len(manifest['classes'])} classes"

    def encoder(self) -> tuple[str, str]:
        """The timm name of its encoder, and the encoder's sizes."""
        spec = self.recipe.get("encoder")
        if spec is None:
            spec = self._extraction.get("encoder") or {}
        units = {"width": "{} wide", "depth": "{} blocks", "patch_size": "patch {}", "image_size": "{} px"}
        return spec.get("arch", "-"), ", ".join(u.format(spec[k]) for k, u in units.items() if spec.get(k))

    @property
    def _extraction(self) -> Result:
        stage = self.stage_in(FEATURES)
        return stage.config if stage else {}

    def epochs(self) -> str:
        """The epochs done, and how many are planned if it has not finished."""
        if "epochs" in self.trained:
            return f"{self.trained['epochs']:g}"
        reached = next((row["epoch"] for row in reversed(self.log) if "epoch" in row), None)
        wanted = (self.recipe.get("train") or {}).get("epochs")
        return "-" if wanted is None else f"{reached or 0:.3g} of {wanted:g}"

    def collapse(self) -> tuple[str, str]:
        """Whether training collapsed, in words, and a mark: ``good``, ``warn``, ``bad`` or ``none``."""
        stage = self.stage_in(PRETRAIN)
        if stage is None:
            return "-", "none"
        if not self.trained:
            return ("failed", "bad") if stage.state == "failed" else ("not finished", "warn")
        words = collapse_words(self.trained.get("collapse"))
        if not words and any("collapsed" in warning for warning in self.warnings):
            return "warning during training, none at the end", "warn"
        return (words, "bad") if words else ("none seen", "good")


def read_facts(path: Path, name: str) -> RunFacts:
    """One run.

    Raises:
        SslkitError: the path is not a run, or no stage was started in it.
    """
    if not path.is_dir():
        raise SslkitError(no_run(path))
    if not Run(path).stages():
        raise SslkitError(f"{path} holds no stage to report on: see `sslkit status {path}`")
    member = read_member(path, name)
    return RunFacts(member.name, member.run, member.stages)


def scalars(results: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers and short words of a stage's results by dotted name; without lists, files and long texts.

    >>> scalars({"top1": 5.0, "chosen": {"lr": 0.1}, "sweep": [1], "page": "index.html"})
    {'top1': 5.0, 'chosen.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, dict):
            found |= scalars(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and _is_word(value, key)):
            found[prefix + key] = value
    return found


def _is_word(value: str, key: str) -> bool:
    return len(value) <= LONGEST_WORD and "/" not in value and key not in ("page", "picture", "fingerprint")
