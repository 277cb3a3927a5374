"""What a report knows of a run: its stages with those on other data, what it learned by, its accuracies."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from sslkit.errors import SslkitError
from sslkit.files import read_json
from sslkit.statistics.intervals import interval, wilson
from stages.contract.layout import Result, Run
from stages.contract.survey import survey

TITLES = {"knn": "k-NN", "finetune": "fine-tuned", "segment": "segmentation", "attn-viz": "attention"}
METRICS = {"jaccard": "Jaccard", "ncut": "Jaccard of the cut", "miou": "mIoU"}
# Stages whose results judge nothing: they prepare, or show.
MAKERS = ("prepare", "pretrain", "extract", "attn-viz", "embed", "reconstruct", "neighbours")
FEW_SHOT = "few-shot"
LONGEST_WORD = 40  # letters of a value in a table of numbers
BASELINES = {
    "random": "untrained encoder",
    "pixels": "raw pixels",
    "timm": "timm's weights",
    "file": "weights of a file",
}


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        id: as in ``Run.stages``.
        home: the run that holds its folder.
        on: name of the other data it was done on; empty for the run's own.
        state: as ``sslkit status`` calls it.
        stale: inputs that changed since.
        record: its ``stage.json``; empty when it never ran.
    """

    id: str
    home: Run
    on: str
    state: str
    stale: Sequence[str]
    record: Result

    @property
    def title(self) -> str:
        """What a person calls it: ``linear, augment on imagenette``."""
        name, _, variant = self.id.partition(":")
        words = TITLES.get(name, name)
        if name == "finetune" and variant.partition("-")[0] == "random":
            # A baseline: its figures must not read as the encoder's.
            words, variant = f"random weights, {words}", variant.removeprefix("random").removeprefix("-")
        return self._placed(f"{words}, {variant}" if variant else words)

    @property
    def measured(self) -> str:
        """What its figures are called: the title; of few-shot with the number of shots."""
        most = self.most_shots
        if not most:
            return self.title
        draws = f"mean of {most['draws']} draws" if most["draws"] > 1 else "1 draw"
        return self._placed(f"{FEW_SHOT}, {most['shots']} shot{'s' * (most['shots'] > 1)}, {draws}")

    @property
    def most_shots(self) -> Result:
        """The row that few-shot is judged by: ``shots``, ``draws``, ``top1``, ``interval`` over draws; else empty."""
        return (self.results.get("shots") or [{}])[-1] if self.id == "knn:shots" else {}

    @property
    def weights(self) -> str | None:
        """Whose weights it judged, as ``--weights`` has them: ``run`` is the run's own; None where that is unknown."""
        configs = (self.record.get("config"), (self.home.record("extract") or {}).get("config"))
        return next((config["weights"] for config in configs if config and "weights" in config), None)

    def _placed(self, words: str) -> str:
        return f"{words} on {self.on}" if self.on else words

    @property
    def results(self) -> Result:
        """What it gave; empty when it is not done."""
        return self.record.get("results") or {}

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.home.folder(self.id)

    @property
    def headlines(self) -> dict[str, float]:
        """What it is judged by: column -> percent. Top-1, or what its results call ``headline``; empty for a maker."""
        if self.id.partition(":")[0] in MAKERS:
            return {}
        found = {"": self.results["top1"]} if "top1" in self.results else self.results.get("headline")
        if not isinstance(found, dict):
            return {}
        return {
            f"{self.measured} {METRICS.get(k, k)}".strip(): float(v)
            for k, v in found.items()
            if isinstance(v, int | float)
        }

    @property
    def judged(self) -> int | None:
        """How many val images its top-1 is a share of."""
        if "top1" not in self.results:
            return None
        if "val_images" in self.results:
            return int(self.results["val_images"])
        path = self.home.predictions(self.id)
        if not path.exists():
            return None
        import numpy as np

        with np.load(path) as predictions:
            return len(predictions["rows"])


@dataclass(frozen=True)
class Facts:
    """One run, read once."""

    run: Run
    name: str
    stages: Sequence[Stage]

    def stage(self, name: str) -> Stage | None:
        """The run's own stage of this name, when it was begun."""
        return next((s for s in self.stages if s.id == name and not s.on and s.record), None)

    @cached_property
    def recipe(self) -> Result:
        """The resolved recipe of its training; empty without one."""
        import yaml

        return yaml.safe_load(self.recipe_text) or {}

    @cached_property
    def recipe_text(self) -> str:
        """The same as it is on disk."""
        return self.run.recipe.read_text() if self.stage("pretrain") and self.run.recipe.exists() else ""

    @cached_property
    def log(self) -> list[Result]:
        """What its training logged so far."""
        from sslkit.files import read_rows

        return read_rows(self.run.metrics) if self.stage("pretrain") else []

    @property
    def training(self) -> Result:
        """Results of its training; empty when that is not done."""
        stage = self.stage("pretrain")
        return stage.results if stage else {}

    @cached_property
    def warnings(self) -> list[str]:
        """What its training warned of; of warnings that differ in their figures only, the last."""
        logged = [words for row in self.log for words in row.get("warnings") or []]
        kinds: dict[str, list[str]] = {}
        for words in [*(self.training.get("warnings") or []), *logged]:
            kinds.setdefault(re.sub(r"[\d.]+", "", words), []).append(words)
        return [words[-1] for words in kinds.values()]

    def learns_by(self) -> tuple[str, str]:
        """Its recipes by name, and what they come to: objectives, mask; or which baseline it is."""
        if not self.recipe:
            kind = ((self.stage("extract") or NEVER).record.get("config") or {}).get("weights")
            return BASELINES.get(str(kind), "-"), "no training" if kind else ""
        method = self.recipe["method"]["name"].replace("_", " ")
        objectives = self.recipe.get("objectives") or {}
        weights = {name: (terms or {}).get("weight", 1) for name, terms in objectives.items()}
        terms = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items())
        mask = self.recipe.get("mask") or {}
        order = f" ({mask['order']})" if mask.get("strategy") == "attention" and mask.get("order") else ""
        hidden = f"{mask['strategy']} masks{order}" if mask.get("strategy") else ""
        about = ", ".join(filter(None, [terms or method, hidden]))
        return ", ".join(recipe_names(self.stage("pretrain"))) or method, about

    def data(self) -> tuple[str, str]:
        """Name of its data, and how many images and classes they have."""
        if not self.run.manifest.exists():
            return "-", ""
        manifest = read_json(self.run.manifest)
        prepare = self.stage("prepare") or NEVER
        source, root = prepare.record.get("config", {}).get("source", ""), prepare.record.get("how", {}).get("root")
        name = Path(str(root)).name.partition(".")[0] if root and source == "folder" else source
        counts = [f"{facts['samples']:,} {split}" for split, facts in manifest["splits"].items()]
        return name or self.run.data.parent.name, f"{' + '.join(counts)} images, {len(manifest['classes'])} classes"

    def encoder(self) -> tuple[str, str]:
        """What timm calls its encoder, and its sizes."""
        spec = self.recipe.get("encoder")
        if spec is None:
            spec = ((self.stage("extract") or NEVER).record.get("config") or {}).get("encoder") or {}
        units = {"width": "{} wide", "depth": "{} blocks", "patch_size": "patch {}", "image_size": "{} px"}
        return spec.get("arch", "-"), ", ".join(u.format(spec[k]) for k, u in units.items() if spec.get(k))

    def epochs(self) -> str:
        """How far it trained, of how far it was to."""
        if "epochs" in self.training:
            return f"{self.training['epochs']:g}"
        reached = next((row["epoch"] for row in reversed(self.log) if "epoch" in row), None)
        wanted = (self.recipe.get("train") or {}).get("epochs")
        return "-" if wanted is None else f"{reached or 0:.3g} of {wanted:g}"

    def collapse(self) -> tuple[str, str]:
        """The verdict on its training, and how bad that is."""
        if not self.training:
            stage = self.stage("pretrain")
            if stage is None:
                return "-", "none"
            return ("failed", "bad") if stage.state == "failed" else ("not finished", "warn")
        found = self.training.get("collapse") or {}
        words = [kind if name == "features" else f"{name}: {kind}" for name, kind in found.items()]
        if not words and any("collapsed" in warning for warning in self.warnings):
            return "warned of, none at the end", "warn"
        return ("; ".join(words), "bad") if words else ("none seen", "good")


NEVER = Stage("", Run(Path()), "", "never", (), {})


def read_facts(path: Path, name: str) -> Facts:
    """One run.

    Raises:
        SslkitError: it is none, or nothing was begun in it.
    """
    if not path.is_dir():
        raise SslkitError(f"{path} is no run directory: start one with `sslkit prepare {path} --source ...`")
    run = Run(path)
    if not run.stages():
        raise SslkitError(f"{path} holds no stage to report on: `sslkit status {path}` says what a run can have")
    stages = _stages(run, "")
    for other in run.transfers():
        begun = other.stages()
        stages += [stage for stage in _stages(other, other.path.name) if stage.id in begun]
    return Facts(run, name, stages)


def _stages(run: Run, on: str) -> list[Stage]:
    found = []
    for name, facts in survey(run).items():
        home = Run(Path(facts["run"])) if "run" in facts else run
        record = (home.record(name) or {}) if facts["state"] != "never" else {}
        found.append(Stage(name, home, on, facts["state"], facts["stale"], record))
    return found


def recipe_names(stage: Stage | None) -> list[str]:
    """What followed ``--recipe`` on a stage's command line; a file by its name.

    >>> stage = Stage("pretrain", Run(Path("r")), "", "done", (), {"command": "sslkit pretrain r --recipe dino"})
    >>> recipe_names(stage)
    ['dino']
    """
    words = shlex.split((stage.record.get("command") or "") if stage else "")
    named = [after for word, after in pairwise(words) if word == "--recipe"]
    named += [word.partition("=")[2] for word in words if word.startswith("--recipe=")]
    return [Path(name).stem for name in named]


@dataclass(frozen=True)
class Accuracy:
    """One evaluation of a run or of its seeds.

    Attributes:
        value: percent; the mean over seeds.
        low: lower end of the 95 % interval; None where none is known.
        high: upper end.
        seeds: one by one; a single one for a run.
        stale: whether an input changed since.
    """

    value: float
    low: float | None
    high: float | None
    seeds: Sequence[float]
    stale: bool


def accuracies(members: Sequence[Facts]) -> dict[str, Accuracy]:
    """By column: for one run with the interval over val images, for seeds with that of their mean."""
    found: dict[str, list[tuple[float, Stage]]] = {}
    for facts in members:
        for stage in facts.stages:
            for column, value in stage.headlines.items():
                found.setdefault(column, []).append((value, stage))
    return {column: _together(pairs) for column, pairs in found.items()}


def _together(pairs: Sequence[tuple[float, Stage]]) -> Accuracy:
    values = [value for value, _ in pairs]
    stale = any(stage.stale for _, stage in pairs)
    if len(values) > 1:
        mean, half = interval(values)
        return Accuracy(mean, mean - (half or 0), mean + (half or 0), values, stale)
    low, high = _spread(*pairs[0])
    return Accuracy(values[0], low, high, values, stale)


def _spread(value: float, stage: Stage) -> tuple[float | None, float | None]:
    """The interval over other val images; of few-shot over other draws of the labelled images."""
    if stage.most_shots:
        half = stage.most_shots["interval"]
        return (None, None) if half is None else (value - half, value + half)
    return wilson(value, stage.judged) if stage.judged else (None, None)


def scalars(results: Any, prefix: str = "") -> dict[str, Any]:
    """Numbers and short words of a stage's results by dotted name; lists, files and long texts are left out.

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
