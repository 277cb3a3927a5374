"""Reads back what loggers wrote, by the programs' own means or file formats."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK, HEADER, OPENING = 1 << 15, 7, 7  # bytes of W&B's file, which is a log of LevelDB with its own opening
RESULTS = "results/"


@dataclass
class Logged:
    """What an experiment holds."""

    scalars: dict[str, dict[int, list[float]]] = field(default_factory=dict)  # by name and step: all values
    pictures: set[str] = field(default_factory=set)
    results: dict[str, float] = field(default_factory=dict)
    epochs: str = ""  # ``train.epochs`` of its config

    def add(self, name: str, step: int, value: float) -> None:
        if name.startswith(RESULTS):
            self.results[name] = value
        else:
            self.scalars.setdefault(name, {}).setdefault(step, []).append(value)


def from_tensorboard(folder: Path, known: dict[str, str]) -> Logged:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    tags, found = events.Tags(), Logged()
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            found.add(tag, event.step, event.value)
    found.pictures = set(tags["images"])
    (recipe,) = events.Tensors("recipe")[0].tensor_proto.string_val
    found.epochs = str(json.loads(recipe)["train"]["epochs"])
    return found


def from_wandb(folder: Path, known: dict[str, str]) -> Logged:
    (path,) = folder.glob(f"offline-run-*-{known['id']}/*.wandb")
    found = Logged()
    for record in _wandb_records(path):
        logged = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        pictures = {name.removesuffix("/_type") for name in logged if name.endswith("/_type")}
        found.pictures |= pictures
        for name, value in logged.items():
            if not name.startswith("_") and name.rpartition("/")[0] not in pictures:
                found.add(name, record.history.step.num, json.loads(value))
        for item in record.summary.update:
            if item.key.startswith(RESULTS):
                found.results[item.key] = json.loads(item.value_json)
        for item in record.run.config.update:
            if item.key == "train":
                found.epochs = str(json.loads(item.value_json)["epochs"])
    return found


def _wandb_records(path: Path) -> Iterator:
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), OPENING, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def from_mlflow(folder: Path, known: dict[str, str], store: str = "") -> Logged:
    from mlflow import MlflowClient

    client, found = MlflowClient(store or f"sqlite:///{folder}/mlflow.db"), Logged()
    (run_id,) = known.values()
    run = client.get_run(run_id)
    for name in run.data.metrics:
        for each in client.get_metric_history(run_id, name):
            found.add(name, each.step, each.value)
    found.pictures = {each.path.removeprefix("pictures/") for each in client.list_artifacts(run_id, "pictures")}
    found.epochs = run.data.params["train.epochs"]
    return found


READERS = {"tensorboard": from_tensorboard, "wandb": from_wandb, "mlflow": from_mlflow}
