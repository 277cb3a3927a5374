"""`sslkit export RUN DIR`: the trained encoder for another library, with a model card."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit import registry
from sslkit.artifacts import read_json
from sslkit.errors import SslkitError
from sslkit.files import printable
from stages.contract.layout import Run, open_run
from stages.contract.output import show
from stages.contract.stage import Stage
from stages.inputs.encoder import check_own
from stages.options.basic import ResultOptions

if TYPE_CHECKING:
    from sslkit.encoder.encoder import Encoder
    from sslkit.export.card import Score
    from sslkit.export.formats.base import ExportFormat

FORMATS = "sslkit.export.formats"
MARK = "\n- sslkit\n"  # a tag in the front matter of every card


class ExportedBranch(str, Enum):
    """One of two encoders that a training run may have."""

    student = "student"
    teacher = "teacher"


STAGE = Stage(name="export", help="Write the encoder for another library.", order=180)


@STAGE.command
@dataclass(kw_only=True)
class Export(ResultOptions):
    """Write the run's encoder in a format that other libraries load, with a model card."""

    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)]
    format: Annotated[
        str, typer.Option("--format", metavar="|".join(registry.names(FORMATS)), help="The library that is to load it.")
    ] = "timm"
    branch: Annotated[
        ExportedBranch | None,
        typer.Option("--branch", help="Default: the one that stages evaluate.", show_default=False),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in DIR.")] = False

    def execute(self) -> None:
        """Export, and print which files there are."""
        run = open_run(self.run)
        check_own(run, named=False)
        run.need(run.encoder)
        run.need(run.encoder_info)
        if self.folder.exists() and not self.folder.is_dir():
            raise SslkitError(f"{self.folder} is a file: name a folder to export to")
        _check_free(self.folder, self.force)
        format: ExportFormat = registry.load(FORMATS, self.format)()
        format.check_installed()
        encoder, info, scores = _exported(run, self.branch)
        _write(encoder, _card(run, encoder, info, scores, format), format, self.folder.resolve())
        files = {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())}
        lines = [f"{self.folder}: {', '.join(files)}", "README.md says how to load it"]
        show({"folder": str(self.folder), "format": self.format, "files": files}, lines, self.json)


def _exported(run: Run, branch: ExportedBranch | None) -> "tuple[Encoder, dict[str, Any], list[Score]]":
    """The run's encoder, what ``encoder.json`` says of it, and its accuracies.

    Another branch is read from the training checkpoint; the run's accuracies are not its own.

    Raises:
        SslkitError: the run has no such branch.
    """
    from sslkit.weights.read import load_checkpoint, load_encoder

    encoder, info = load_encoder(run.encoder, run.encoder_info), read_json(run.encoder_info)
    if branch is None or branch.value == info["branch"]:
        return encoder, info, _scores(run)
    load_checkpoint(encoder, run.need(run.checkpoint), branch.value)
    return encoder, {**info, "branch": branch.value}, []


def _write(encoder: "Encoder", card: str, format: "ExportFormat", place: Path) -> None:
    """Write the export and its card next to its place, and move it there whole."""
    making = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        format.write(encoder, making)
        (making / "README.md").write_text(printable(card), encoding="utf-8")
        if place.exists():
            shutil.rmtree(place)
        making.replace(place)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _check_free(folder: Path, force: bool) -> None:
    """Refuse a folder that an export may not replace.

    Raises:
        SslkitError: it holds something other than an export, or an export and ``--force`` was not given.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    card = folder / "README.md"
    if not (card.is_file() and MARK in card.read_text(errors="ignore")):
        raise SslkitError(f"{folder} is not empty and is not an earlier export: name a new folder")
    if not force:
        raise SslkitError(f"{folder} is not empty: name a new folder, or replace it with --force")


def _card(run: Run, encoder: "Encoder", info: Mapping[str, Any], scores: "list[Score]", format: "ExportFormat") -> str:
    from sslkit.export.card import CardFacts, render
    from stages.reporting.dataset import data_name

    training = run.record("pretrain") or {}
    return render(
        CardFacts(
            name=run.path.resolve().name,
            format=format,
            info=info,
            vit=encoder.vit,
            parameters=sum(p.numel() for p in encoder.model.parameters()),
            recipe=training.get("config", {}),
            data={**run.prepared(), "name": data_name(run)} if run.manifest.exists() else {},
            scores=scores,
            command=training.get("command", ""),
            versions=training.get("versions", {}),
            collapse=training.get("results", {}).get("collapse") or {},
        )
    )


def _scores(run: Run) -> "list[Score]":
    """Every accuracy of this encoder, on the run's own data and on other data, without those of baselines."""
    from sslkit.export.card import Score
    from stages.evaluations.results import TOP1
    from stages.reporting.facts import read_facts

    facts, found = read_facts(run.path, run.path.name), []
    own, _ = facts.dataset()
    for evaluation in facts.evaluations.values():
        stage = evaluation.stage
        if evaluation.metric != TOP1 or stage.weights not in (None, "run"):
            continue
        top1, half = None if stage.stale else evaluation.value, stage.draws.half if stage.draws else None
        k = stage.settled.get("k")
        found.append(Score(evaluation.full_name, stage.on or own, top1, k, stage.images, half))
    return found
