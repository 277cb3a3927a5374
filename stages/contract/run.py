"""The run directory: the only place where an artifact's name is written.

A stage is performed under one contract, whatever it does: a lock that dies with its process, a ``stage.json``
with what went in and what came out, "up to date" when nothing changed, a refusal that names what changed, and
a second try that finds the folder as the first one left it.
"""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sslkit.errors import InterruptedRun, SslkitError, UsageError
from sslkit.files import read_json, sha256, write_json
from stages.contract.lock import held, holder
from stages.contract.record import describe_difference, fingerprints, outputs, outputs_intact, peak_memory_mb, versions

# Stage -> its folder in the run. The order is the pipeline's; of the first six each run is expected to have all.
FOLDERS = {
    "prepare": "data",
    "pretrain": "pretrain",
    "extract": "features",
    "knn": "knn",
    "linear": "linear",
    "attn-viz": "attention",
    "finetune": "finetune",
    "segment": "segment",
    "occlusion": "occlusion",
    "health": "health",
    "reconstruct": "reconstruct",
    "neighbours": "neighbours",
    "embed": "embed",
}
CHAIN = 6
ASKS = {"prepare": ["--source ..."], "pretrain": ["--recipe ..."]}  # what a stage cannot do without
TRANSFERS = "on"  # folder of what a run's encoder gave on other data than its own
Result = dict[str, Any]


class Run:
    """A run directory, by name of artifact.

    A stage may be done in several variants, each under the contract in a folder of its own: the stage
    ``"linear:augment"`` writes ``linear-augment/``. ``on/NAME`` below a run is a run itself, which judges the
    upper one's encoder on other data (``transferred``).

    Args:
        path: the directory; it need not exist yet.
        data: another run whose prepared data, or whose reference to such, this one uses (``--data``); remembered in
            ``data/reference.json``.
    """

    def __init__(self, path: Path, data: Path | None = None):
        self.path = Path(path)
        self._other_data = Path(data) if data else None

    @property
    def own_data(self) -> Path:
        """Where ``prepare`` writes."""
        return self.path / FOLDERS["prepare"]

    @property
    def data(self) -> Path:
        """The prepared data: ``--data``'s, else this run's own, else the one it was last pointed at."""
        if self._other_data:
            return Run(self._other_data).data
        reference = self.own_data / "reference.json"
        if not (self.own_data / "manifest.json").exists() and reference.exists():
            return (self.path / read_json(reference)["run"]).resolve() / FOLDERS["prepare"]
        return self.own_data

    @property
    def trained(self) -> "Run":
        """The run whose encoder this one judges: itself, but for one below ``on/``."""
        return Run(self.path.parent.parent) if self.path.parent.name == TRANSFERS else self

    def transfers(self) -> list["Run"]:
        """The runs below ``on/``, by name."""
        return [Run(path) for path in sorted((self.path / TRANSFERS).glob("*")) if path.is_dir()]

    def remember_data(self) -> None:
        """Record ``--data`` for the stages to come, unless this run has data of its own."""
        if self._other_data and not (self.own_data / "manifest.json").exists():
            relative = os.path.relpath(self.data.parent.resolve(), self.path.resolve())
            write_json(self.own_data / "reference.json", {"run": relative})

    @property
    def manifest(self) -> Path:
        """``data/manifest.json``: what was prepared, with a fingerprint of every shard."""
        return self.data / "manifest.json"

    @property
    def pretrain(self) -> Path:
        """Folder of the training stage."""
        return self.trained.path / FOLDERS["pretrain"]

    @property
    def recipe(self) -> Path:
        """The resolved recipe of the training stage."""
        return self.pretrain / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per log line of the training."""
        return self.pretrain / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """Folder of the log as TensorBoard events, where they were asked for."""
        return self.pretrain / "tensorboard"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to go on training."""
        return self.pretrain / "checkpoint.pt"

    @property
    def encoder(self) -> Path:
        """The trained encoder, timm's key names."""
        return self.pretrain / "encoder.safetensors"

    @property
    def encoder_info(self) -> Path:
        """How to build the encoder: timm name and arguments, normalisation, branch."""
        return self.pretrain / "encoder.json"

    def kept_encoders(self) -> list[tuple[float, Path]]:
        """The encoders that the training kept, as (epochs, weights), in order; each loads by ``encoder_info``."""
        return [(float(path.stem), path) for path in sorted((self.pretrain / "kept").glob("*.safetensors"))]

    @property
    def views(self) -> Path:
        """Picture of what the model sees."""
        return self.pretrain / "views.png"

    @property
    def preview(self) -> Path:
        """Folder of a look at a recipe; no stage of the pipeline, so it is not in ``FOLDERS``."""
        return self.path / "preview"

    @property
    def preview_views(self) -> Path:
        """Picture of what a model would see."""
        return self.preview / "views.png"

    @property
    def preview_recipe(self) -> Path:
        """The resolved recipe that the picture shows."""
        return self.preview / "recipe.yaml"

    @property
    def features(self) -> Path:
        """Folder of frozen features; ``<split>/cls.npy`` and its neighbours are below it."""
        return self.path / FOLDERS["extract"]

    @property
    def features_info(self) -> Path:
        """``features/features.json``: where the features come from."""
        return self.features / "features.json"

    def feature(self, split: str, name: str) -> Path:
        """``features/<split>/<name>.npy``: cls, labels, blocks or patch_mean."""
        return self.features / split / f"{name}.npy"

    def predictions(self, stage: str) -> Path:
        """What a probe says of every labelled val image: arrays ``rows``, ``labels`` and ``predicted``, (N,) each."""
        return self.folder(stage) / "predictions.npz"

    @property
    def linear_head(self) -> Path:
        """Weight and bias of the chosen linear head, for raw features."""
        return self.path / FOLDERS["linear"] / "head.safetensors"

    def results(self, stage: str) -> Path:
        """``results.json`` of a probe."""
        return self.folder(stage) / "results.json"

    def folder(self, stage: str) -> Path:
        """The folder that a stage writes, or a variant of it."""
        name, _, variant = stage.partition(":")
        return self.path / (f"{FOLDERS[name]}-{variant}" if variant else FOLDERS[name])

    def stages(self) -> list[str]:
        """The stages that were begun, in the pipeline's order, each followed by its variants."""
        found = []
        for name, folder in FOLDERS.items():
            variants = sorted(p.parent.name.removeprefix(folder)[1:] for p in self.path.glob(f"{folder}-*/stage.json"))
            found += [name] if (self.path / folder / "stage.json").exists() else []
            found += [f"{name}:{variant}" for variant in variants]
        return found

    def record(self, stage: str) -> Result | None:
        """The stage's ``stage.json``, or None when it never ran."""
        path = self.folder(stage) / "stage.json"
        try:
            return read_json(path)
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise SslkitError(f"{path} is not JSON ({error}); redo the stage with --force") from error

    def need(self, path: Path, stage: str) -> Path:
        """``path``, when it is there.

        Raises:
            SslkitError: it is missing; the message names the stage that makes it.
        """
        if not path.exists():
            raise SslkitError(f"{path} is missing: run `{self._command(stage)}` first")
        return path

    def _command(self, stage: str) -> str:
        """What makes a stage's files, as far as this run tells."""
        if self.trained is not self and stage != "pretrain":
            known = self._other_data or (os.path.relpath(self.data.parent) if self.manifest.exists() else "...")
            return f"sslkit {stage} {self.trained.path} --data {known}"
        return " ".join([f"sslkit {stage} {self.trained.path}", *ASKS.get(stage, [])])

    def perform(
        self,
        stage: str,
        work: Callable[[Path], Result],
        *,
        config: Mapping[str, Any],
        inputs: Mapping[str, Path],
        how: Mapping[str, Any] | None = None,
        force: bool = False,
        check: Callable[[], object] = lambda: None,
    ) -> Result:
        """Run ``work(folder)`` under the stage contract and return its results.

        Args:
            stage: a key of ``FOLDERS``, or one and a variant: ``"linear:augment"``.
            work: does the stage in the folder it is given, which holds what an unfinished try left.
                It returns results that JSON can hold; they are stored in ``stage.json``.
            config: what the results depend on; a different config is refused without ``force``.
            inputs: files the results depend on, by name; compared by SHA-256.
            how: device, workers, ...: recorded, not compared.
            force: throw away what the stage wrote before and start anew.
            check: raises where the work cannot be done. Asked when something is to be done, and before anything is
                written or thrown away: a mistake leaves neither a failed stage nor a gap where results were.

        Returns:
            The results, with ``"up_to_date": True`` added when nothing had to be done.

        Raises:
            SslkitError: another process writes this run, or the stage ran before with other config or inputs.
        """
        folder = self.folder(stage)
        wanted = {"config": json.loads(json.dumps(config)), "inputs": fingerprints(inputs, self.path)}
        with self.lock(stage):
            old = self.record(stage) if not force else None
            if old is not None:
                difference = describe_difference(old, wanted)
                if difference and (old["status"] == "done" or outputs(folder)):
                    raise SslkitError(f"{stage} ran before with other settings: {difference}; --force redoes it")
                if not difference and old["status"] == "done" and outputs_intact(folder, old):
                    return {**old["results"], "up_to_date": True, **self._behind(stage)}
            check()
            if force and folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            return self._work(stage, work, {**wanted, "how": dict(how or {})}, old)

    def _behind(self, stage: str) -> Result:
        """``{"stale": [...]}`` where a stage is up to date with files that are not: their own inputs changed."""
        from stages.status import survey  # which reads runs, and so imports this module

        stale = survey(self).get(stage, {}).get("stale", [])
        return {"stale": stale} if stale else {}

    def _work(self, stage: str, work: Callable[[Path], Result], facts: Result, old: Result | None) -> Result:
        folder = self.folder(stage)
        began, before = time.time(), (old or {}).get("seconds", 0.0)
        record: Result = {
            "stage": stage,
            "status": "running",
            "command": shlex.join(["sslkit", *sys.argv[1:]]),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **facts,
            "versions": versions(),
        }
        write_json(folder / "stage.json", record)
        try:
            record["results"] = work(folder)
            record["status"] = "done"
            return record["results"]
        except (KeyboardInterrupt, InterruptedRun):
            record["status"] = "interrupted"
            raise
        except BaseException as error:
            record["status"] = "failed"
            record["error"] = str(error).split("\n")[0]
            raise
        finally:
            # Seconds over all tries of this stage.
            record["seconds"] = round(before + time.time() - began, 2)
            record["peak_memory_mb"] = peak_memory_mb()
            record["outputs"] = outputs(folder)
            # On a full disk the reason why the work failed is worth more than the failure to note it.
            with nullcontext() if record["status"] == "done" else suppress(OSError):
                write_json(folder / "stage.json", record)

    def lock(self, stage: str) -> AbstractContextManager[None]:
        """Hold the run for writing; see ``lock.held``."""
        return held(self.path, stage)

    def writer(self) -> str | None:
        """The stage that a living process is performing on this run now; None when nobody holds the lock."""
        return holder(self.path)

    def stale(self, stage: str) -> list[str]:
        """Names of the inputs that changed since a stage was done."""
        record = self.record(stage)
        if record is None:
            return []
        changed = []
        for name, was in record["inputs"].items():
            path = self.path / was["path"]
            if not path.exists() or sha256(path) != was["sha256"]:
                changed.append(name)
        return changed


def open_run(path: Path | None, data: Path | None = None) -> Run:
    """The run named on the command line or in ``$SSLKIT_RUN``."""
    if path is None:
        raise UsageError("name a run directory: the first argument, or $SSLKIT_RUN")
    if data is not None and not Run(data).manifest.exists():
        raise SslkitError(f"--data {data} holds no prepared data: run `sslkit prepare {data} --source ...` first")
    return Run(path, data)


def transferred(path: Path | None, data: Path | None) -> Run:
    """The run in which ``--data`` is judged: the named one, or, where that is about other data, ``on/NAME`` below it.

    So an encoder that was trained on one dataset is judged on several, each with its own features and results.
    """
    run = open_run(path, data)
    home = Run(run.path)
    if data is None or not home.manifest.exists() or home.manifest.resolve() == run.manifest.resolve():
        return run
    below = Run(home.path / TRANSFERS / run.data.parent.resolve().name)
    if below.manifest.exists() and below.manifest.resolve() != run.manifest.resolve():
        raise SslkitError(f"{below.path} is about {below.data.parent}, not {data}: rename one of the two")
    return Run(below.path, data)
