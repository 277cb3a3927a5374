"""The run directory: the only place where the names of shared artifacts are written."""

import os
import shlex
from pathlib import Path
from typing import Any

from sslkit.artifacts import is_there, read_json
from sslkit.errors import SslkitError, UsageError
from sslkit.files import printable, write_json
from stages.contract.absent import no_run, unfinished
from stages.contract.integrity import RECORD, REFERENCE, check_recorded, read_record, usual_command
from stages.contract.stage import Stage, recorded, stage_of

DATA, PRETRAIN, FEATURES = "data", "pretrain", "features"  # folders whose files other stages read by name
ATTENTION = "attention"  # below the training run's folder, pictures drawn while it trained
TRANSFERS = "on"  # folder of the results that a run's encoder has on data other than its own
MANIFEST = {
    "classes": [str],
    "splits": {str: {"samples": int, "shards": [{"file": str, "sha256": str}]}},
    "channels?": int,
    "range?": [float],
}
Result = dict[str, Any]


class Run:
    """A run directory.

    A stage may be done in several variants, each in a folder of its own: ``"linear:augment"`` writes
    ``linear-augment/``. ``on/NAME`` below a run is a run itself, which evaluates the upper run's encoder on other data
    (see ``transferred``).

    Args:
        path: the directory; it need not exist yet.
        data: another run whose prepared data this one uses (``--data``); remembered in ``data/reference.json``.
    """

    def __init__(self, path: Path, data: Path | None = None):
        self.path = Path(path)
        self._other_data = Path(data) if data else None

    # Data.

    @property
    def own_data(self) -> Path:
        """Folder that this run's own ``prepare`` writes."""
        return self.path / DATA

    @property
    def data(self) -> Path:
        """Folder of the prepared data: that of ``--data``, else this run's own, else the one last referred to."""
        if self._other_data:
            return Run(self._other_data).data
        reference = self.own_data / REFERENCE
        if not (self.own_data / "manifest.json").exists() and is_there(reference):
            return (self.path / read_json(reference, {"run": str})["run"]).resolve() / DATA
        return self.own_data

    @property
    def manifest(self) -> Path:
        """``data/manifest.json``: what was prepared, with a fingerprint of every shard."""
        return self.data / "manifest.json"

    def prepared(self) -> Result:
        """The manifest of the data.

        Raises:
            SslkitError: it is missing or damaged.
        """
        return read_json(self.need(self.manifest), MANIFEST)

    def remember_data(self) -> None:
        """Record ``--data`` for later stages, unless this run has data of its own."""
        if self._other_data and not (self.own_data / "manifest.json").exists():
            relative = os.path.relpath(self.data.parent.resolve(), self.path.resolve())
            write_json(self.own_data / REFERENCE, {"run": relative})

    # Training run.

    @property
    def trained(self) -> "Run":
        """The run whose encoder this one evaluates: itself, or the upper run for one below ``on/``."""
        return Run(self.path.parent.parent) if self.path.parent.name == TRANSFERS else self

    @property
    def title(self) -> str:
        """What pages call this run: its path as it was given, or its last part if that was absolute.

        A run below ``on/`` is called ``runs/a on photos``.
        """
        given = self.trained.path.as_posix()
        name = self.trained.path.resolve().name if self.trained.path.is_absolute() or given == "." else given
        return printable(name if self.trained.path == self.path else f"{name} on {self.path.name}")

    def transfers(self) -> list["Run"]:
        """The runs below ``on/``, by name."""
        return [Run(path) for path in sorted((self.path / TRANSFERS).glob("*")) if path.is_dir()]

    @property
    def pretrain(self) -> Path:
        """Folder of the training run."""
        return self.trained.path / PRETRAIN

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.pretrain / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """The training log, one JSON object a line."""
        return self.pretrain / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything that is needed to resume training."""
        return self.pretrain / "checkpoint.pt"

    @property
    def encoder(self) -> Path:
        """The trained encoder, with timm's key names."""
        return self.pretrain / "encoder.safetensors"

    @property
    def encoder_info(self) -> Path:
        """How to build the encoder: timm name and arguments, normalisation, branch."""
        return self.pretrain / "encoder.json"

    def kept_encoders(self) -> list[tuple[float, Path]]:
        """The encoders kept during training, as (epochs, weights), in order; each loads by ``encoder_info``."""
        return [(float(path.stem), path) for path in sorted((self.pretrain / "kept").glob("*.safetensors"))]

    @property
    def views(self) -> Path:
        """Picture of what the model sees."""
        return self.pretrain / "views.png"

    def attention_pictures(self) -> list[tuple[int, Path]]:
        """The attention maps drawn during training, as (step, PNG), in order."""
        return [(int(path.stem), path) for path in sorted((self.pretrain / ATTENTION).glob("*.png"))]

    @property
    def logs(self) -> Path:
        """Folder of what loggers such as TensorBoard write, where they were asked for."""
        return self.trained.path / "logs"

    # Features.

    @property
    def features(self) -> Path:
        """Folder of the frozen features; ``<split>/cls.npy`` and its neighbours are below it."""
        return self.path / FEATURES

    @property
    def features_info(self) -> Path:
        """``features/features.json``: where the features come from."""
        return self.features / "features.json"

    def feature(self, split: str, name: str) -> Path:
        """``features/<split>/<name>.npy``: cls, labels, blocks or patch_mean."""
        return self.features / split / f"{name}.npy"

    def samples(self, split: str) -> Path:
        """``features/<split>/samples.jsonl``: the file, key and label of each row."""
        return self.features / split / "samples.jsonl"

    # Probes.

    @property
    def linear_head(self) -> Path:
        """Weight and bias of the linear probe, for raw features."""
        return self.folder("linear") / "head.safetensors"

    # Stages.

    def folder(self, stage: str) -> Path:
        """The folder of a stage, or of a variant of it."""
        name, _, variant = stage.partition(":")
        folder = stage_of(name).folder
        return self.path / (f"{folder}-{variant}" if variant else folder)

    def results(self, stage: str) -> Path:
        """``results.json`` of a stage."""
        return self.folder(stage) / "results.json"

    def predictions(self, stage: str) -> Path:
        """What a probe predicts for every labelled val image: ``rows``, ``labels``, ``predicted``, (N,) each."""
        return self.folder(stage) / "predictions.npz"

    def stages(self) -> list[str]:
        """The stages that were begun, in the pipeline's order, each followed by its variants."""
        found = []
        for name, stage in recorded().items():
            folders = sorted(path.parent.name for path in self.path.glob(f"{stage.folder}-*/{RECORD}"))
            found += [name] if (self.path / stage.folder / RECORD).exists() else []
            found += [stage.id(folder.removeprefix(f"{stage.folder}-")) for folder in folders]
        return found

    def record(self, stage: str) -> Result | None:
        """The ``stage.json`` of a stage, or None when it never ran."""
        return self.record_in(self.folder(stage))

    def record_in(self, folder: Path) -> Result | None:
        """The ``stage.json`` in a folder of the run, such as ``pretrain`` or ``features``; None when there is none."""
        return read_record(folder)

    def home(self, stage: Stage) -> "Run":
        """The run that holds a stage's folder: this one, unless data or training are another run's."""
        if stage.home == "data" and self.data != self.own_data:
            return Run(self.data.parent)
        return self.trained if stage.home == "encoder" else self

    def checked(self, path: Path) -> Path:
        """``path``, which need not exist, if it holds the bytes that its stage recorded; read once per process.

        Raises:
            DamagedFile: it holds others.
        """
        if is_there(path):
            check_recorded(path)
        return path

    def need(self, path: Path) -> Path:
        """``path``, when it exists and holds the bytes that its stage recorded.

        Raises:
            SslkitError: it does not; the message names the command that makes it.
        """
        if is_there(path):
            return self.checked(path)
        if not self.trained.path.is_dir():
            raise SslkitError(no_run(self.trained.path))
        elsewhere = self.data.parent
        if path.is_relative_to(self.data) and not elsewhere.is_dir() and elsewhere != self.path:
            words = no_run(elsewhere, "name the run that holds the data with --data RUN")
            raise SslkitError(f"the data of {self.path} are another run's: {words}")
        raise SslkitError(f"{path} is missing{self.why_missing(path)}")

    def why_missing(self, path: Path) -> str:
        """The end of a message on a missing file: what became of the stage that makes it, and the command to run."""
        folders = {stage.folder: stage for stage in recorded().values()}
        folder = next((parent for parent in path.parents if parent.name in folders), None)
        if folder is None:
            return ""
        maker = folders[folder.name]
        return f": {unfinished(folder, maker, path) or f'run `{self.command(maker)}` first'}"

    def command(self, stage: Stage) -> str:
        """The command that makes a stage's files, as far as this run tells."""
        command = usual_command(self.trained.path, stage)
        if self.trained is self or stage.home == "encoder":
            return command
        known = self._other_data or (os.path.relpath(self.data.parent) if self.manifest.exists() else "...")
        return f"{command} --data {shlex.quote(str(known))}"


def open_run(path: Path | None, data: Path | None = None) -> Run:
    """The run named on the command line or in ``$SSLKIT_RUN``."""
    if path is None:
        raise UsageError("name a run directory: the first argument, or $SSLKIT_RUN")
    if data is not None and not data.is_dir():
        raise SslkitError(f"--data: {no_run(data)}")
    if data is not None and not (other := Run(data)).manifest.exists():
        raise SslkitError(f"--data {data} holds no prepared data{other.why_missing(other.manifest)}")
    return Run(path, data)


def transferred(path: Path | None, data: Path | None) -> Run:
    """The run that holds the results on ``--data``: the named one, or ``on/NAME`` below it if its own data differ.

    So an encoder that was trained on one dataset is evaluated on several, each with its own features and results.
    """
    run = open_run(path, data)
    home = Run(run.path)
    if data is None or not home.manifest.exists() or home.manifest.resolve() == run.manifest.resolve():
        return run
    below = Run(home.path / TRANSFERS / run.data.parent.resolve().name)
    if below.manifest.exists() and below.manifest.resolve() != run.manifest.resolve():
        raise SslkitError(f"{below.path} holds results on {below.data.parent}, not on {data}: rename one of the two")
    return Run(below.path, data)
