"""Whether two results are comparable: the same images, and the same protocol."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sslkit.artifacts import read_json
from sslkit.files import sha256
from stages.evaluations.members import Member
from stages.evaluations.results import Evaluation, StageResult

TEST_IMAGES, TRAINING_IMAGES = "test images", "training images"
LABEL_SEED = "seed of the labels"
DIGITS = 8  # of a fingerprint: enough to distinguish two
LONG = 40


class Protocol:
    """What each evaluation depends on, apart from the encoder.

    Args:
        members: all runs of the comparison. A recorded manifest that is still there says which split of the data
            differs; another run's copy of the same manifest serves as well.
    """

    def __init__(self, members: Iterable[Member]):
        self._splits: dict[str, dict[str, str]] = {}
        self._facts: dict[tuple[str, str], dict[str, Any]] = {}
        for stage in (e.stage for member in members for e in member.evaluations.values()):
            if (data := _data(stage)) and data["sha256"] not in self._splits:
                path = stage.home.path / data["path"]
                if path.is_file() and sha256(path) == data["sha256"]:
                    self._splits[data["sha256"]] = _digests(path)

    def facts(self, evaluation: Evaluation) -> dict[str, Any]:
        """By name, everything that must be equal for two values to be comparable; what is unknown is missing."""
        stage = evaluation.stage
        key = str(stage.home.path), stage.id
        if key not in self._facts:
            self._facts[key] = {**self._images(stage), **_settings(stage)}
        return self._facts[key]

    def _images(self, stage: StageResult) -> dict[str, str]:
        data = _data(stage)
        if not data:
            return {}
        splits = self._splits.get(data["sha256"], {})
        return {
            TEST_IMAGES: splits.get("val", data["sha256"])[:DIGITS],
            TRAINING_IMAGES: splits.get("train", data["sha256"])[:DIGITS],
        }

    def why_not(self, one: Evaluation, other: Evaluation) -> str:
        """Why two values are not comparable, in words; empty if nothing is known to differ."""
        a, b = self.facts(one), self.facts(other)
        words = [f"{name} {shown(a[name])} and {shown(b[name])}" for name in a if name in b and a[name] != b[name]]
        return f"different {', '.join(words)}" if words else ""

    def comparable(self, evaluations: Sequence[Evaluation]) -> bool:
        """Whether values of one metric may be ranked: only the seed of the labels is known to differ."""
        facts = [self.facts(evaluation) for evaluation in evaluations]
        names = {name for each in facts for name in each} - {LABEL_SEED}
        return all(len({json.dumps(each[name]) for each in facts if name in each}) <= 1 for name in names)

    def notes(self, members: Sequence[Member]) -> list[str]:
        """A line for each setting that differs, as in ``k-NN at different k (a 20, b 10)``."""
        titles: dict[str, list[str]] = {}
        for key in dict.fromkeys(key for member in members for key in member.evaluations):
            found = [(m.name, m.evaluations[key]) for m in members if key in m.evaluations]
            for name in dict.fromkeys(name for _, e in found for name in self.facts(e)):
                values = [(run, shown(self.facts(e)[name])) for run, e in found if name in self.facts(e)]
                if _differ(name, values):
                    who = ", ".join(dict.fromkeys(f"{run} {value}" for run, value in values))
                    text = f"{'on' if name in (TEST_IMAGES, TRAINING_IMAGES) else 'at'} different {name} ({who})"
                    titles.setdefault(text, []).append(found[0][1].title)
        return [f"{', '.join(dict.fromkeys(those))} {text}" for text, those in titles.items()]


def _differ(name: str, values: Sequence[tuple[str, str]]) -> bool:
    if name != LABEL_SEED:
        return len({value for _, value in values}) > 1
    # Each seed of an experiment may draw its own labels, if the seeds of every experiment draw the same ones.
    by_run: dict[str, set[str]] = {}
    for run, value in values:
        by_run.setdefault(run, set()).add(value)
    return any(found != by_run[values[0][0]] for found in by_run.values())


def _digests(manifest: Path) -> dict[str, str]:
    """A SHA-256 of the shards of each split that a manifest lists."""
    return {
        name: hashlib.sha256("".join(shard["sha256"] for shard in split["shards"]).encode()).hexdigest()
        for name, split in read_json(manifest)["splits"].items()
    }


def _data(stage: StageResult) -> Mapping[str, str] | None:
    """``{path, sha256}`` of the manifest of the images that a stage or its features used; None for photos."""
    if stage.config.get("photos", "val") != "val":
        return None  # their digest is a setting
    inputs = (record.get("inputs", {}).get("data") for record in (stage.record, stage.extraction))
    return next((data for data in inputs if data), None)


def _settings(stage: StageResult) -> dict[str, Any]:
    config, declared = stage.config, stage.declared
    values = {**{name: value for name, value in config.items() if name in declared.protocol}, **stage.settled}
    found = {name.replace("_", " "): value for name, value in values.items()}
    if "seed" in config and (stage.draws or config.get("label_fraction") not in (None, 1.0)):
        found[LABEL_SEED] = config["seed"]
    source = config if "image_size" in config else stage.extraction.get("config", {})
    if "image_size" in source and source.get("weights") != "pixels":  # raw pixels have a size of their own
        found["image size"] = source["image_size"]
    return found


def shown(value: Any, none: str = "none") -> str:
    """A setting in at most 40 characters; strings as they are, other values as JSON."""
    text = none if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."
