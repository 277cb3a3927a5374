"""Whether two runs were judged alike: on the same images, and by the same protocol."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sslkit.files import read_json, sha256
from stages.contract.layout import Result, Run
from stages.evaluations.comparison import Evaluation, Member

# What is judged, and what only says how: neither belongs to the protocol.
NOT_PROTOCOL = ("weights", "encoder", "seed", "precision", "workers", "image_size", "protocols")
LEARNS = ("linear", "finetune")  # where the batch size is a setting of the learning, and not of a forward pass
TEST_IMAGES, TRAINING_IMAGES = "test images", "training images"
LABEL_SEED = "seed of the labels"
DIGITS = 8  # of a fingerprint: enough to tell it from another
LONG = 40


class Protocol:
    """What each accuracy depends on beside the encoder.

    Args:
        members: all runs of the comparison. Where the manifest that one recorded is still there, it says which
            split of the data differs; another run's copy of the same manifest serves as well.
    """

    def __init__(self, members: Iterable[Member]):
        self._splits: dict[str, dict[str, str]] = {}
        self._facts: dict[tuple[str, str], dict[str, Any]] = {}
        for evaluation in (e for member in members for e in member.evaluations.values()):
            data = _data(evaluation.run, evaluation.stage)
            if data:
                self._learn(evaluation.run, data)

    def _learn(self, run: Run, data: Mapping[str, str]) -> None:
        """Read which shards a recorded manifest lists, if it is there unchanged."""
        path = run.path / data["path"]
        if data["sha256"] in self._splits or not path.is_file() or sha256(path) != data["sha256"]:
            return
        self._splits[data["sha256"]] = {
            name: hashlib.sha256("".join(shard["sha256"] for shard in split["shards"]).encode()).hexdigest()
            for name, split in read_json(path)["splits"].items()
        }

    def facts(self, evaluation: Evaluation) -> dict[str, Any]:
        """What must be equal for two figures to compare, by name; what is not known is not in it."""
        key = str(evaluation.run.path), evaluation.stage
        if key not in self._facts:
            run, stage = evaluation.run, evaluation.stage
            self._facts[key] = {**self._images(run, stage), **_settings(run, stage)}
        return self._facts[key]

    def _images(self, run: Run, stage: str) -> dict[str, str]:
        data = _data(run, stage)
        if not data:
            return {}
        splits = self._splits.get(data["sha256"], {})
        return {
            TEST_IMAGES: splits.get("val", data["sha256"])[:DIGITS],
            TRAINING_IMAGES: splits.get("train", data["sha256"])[:DIGITS],
        }

    def why_not(self, one: Evaluation, other: Evaluation) -> str:
        """What keeps two figures from being compared, in words; empty where nothing is known to."""
        a, b = self.facts(one), self.facts(other)
        words = [f"{name} {_shown(a[name])} and {_shown(b[name])}" for name in a if name in b and a[name] != b[name]]
        return f"different {', '.join(words)}" if words else ""

    def notes(self, members: Sequence[Member]) -> list[str]:
        """A sentence for everything in which runs were judged differently; accuracies that share it share one."""
        titles: dict[str, list[str]] = {}
        for key in dict.fromkeys(key for member in members for key in member.evaluations):
            found = [(m.name, m.evaluations[key]) for m in members if key in m.evaluations]
            for name in dict.fromkeys(name for _, e in found for name in self.facts(e)):
                values = [(run, _shown(self.facts(e)[name])) for run, e in found if name in self.facts(e)]
                if _differ(name, values):
                    who = ", ".join(dict.fromkeys(f"{run} {value}" for run, value in values))
                    where = "on" if name in (TEST_IMAGES, TRAINING_IMAGES) else "at"
                    text = f"{where} different {name}, which do not compare: {who}"
                    titles.setdefault(text, []).append(found[0][1].title)
        return [f"{', '.join(dict.fromkeys(those))} {text}" for text, those in titles.items()]


def _differ(name: str, values: Sequence[tuple[str, str]]) -> bool:
    if name != LABEL_SEED:
        return len({value for _, value in values}) > 1
    # Seeds of an experiment may each draw labels of their own, if those of every experiment do.
    by_run: dict[str, set[str]] = {}
    for run, value in values:
        by_run.setdefault(run, set()).add(value)
    return any(found != by_run[values[0][0]] for found in by_run.values())


def _data(run: Run, stage: str) -> Mapping[str, str] | None:
    """``{path, sha256}`` of the manifest whose images a stage judged, itself or by ``extract``; None for photos."""
    config = (run.record(stage) or {}).get("config", {})
    if config.get("photos", "val") != "val":
        return None  # their digest is a setting
    for name in (stage, "extract"):
        data = (run.record(name) or {}).get("inputs", {}).get("data")
        if data:
            return data
    return None


def _settings(run: Run, stage: str) -> Result:
    record, extraction = run.record(stage) or {}, (run.record("extract") or {}).get("config", {})
    config, base = record.get("config", {}), stage.partition(":")[0]
    settings = {
        name.replace("_", " "): value
        for name, value in config.items()
        if name not in NOT_PROTOCOL and (name != "batch_size" or base in LEARNS)
    }
    if "seed" in config and ("labels-" in stage or stage == "knn:shots"):
        settings[LABEL_SEED] = config["seed"]
    if base == "knn" and "k" in record["results"]:
        settings["k"] = record["results"]["k"]  # a sweep has its headline at the k of a run that asked for just that
    source = config if "image_size" in config else extraction
    # The baseline of pixels has a size of its own.
    return {**settings, **({"image size": source["image_size"]} if source.get("weights", "pixels") != "pixels" else {})}


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."
