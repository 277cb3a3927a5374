"""`sslkit export RUN DIR`: the trained encoder for another library, with a model card."""

import shutil
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import SslkitError
from stages.contract.layout import Result, Run, open_run
from stages.contract.output import show
from stages.contract.stage import Stage
from stages.inputs.encoder import check_own
from stages.options.basic import JsonOption, RunArgument

if TYPE_CHECKING:
    from sslkit.export.card import Score

MARK = "\n- sslkit\n"  # a tag in the front matter of every card


class Format(str, Enum):
    """Who is to load it."""

    timm = "timm"
    transformers = "transformers"
    onnx = "onnx"
    torchscript = "torchscript"
    pt = "pt"


STAGE = Stage(name="export", help="Write the encoder for another library.", order=180)


@STAGE.command
def export(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    format: Annotated[Format, typer.Option("--format", help="Who is to load it.")] = Format.timm,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in DIR.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the run's encoder in a format that other libraries load, and a README.md that says what it is."""
    here = open_run(run)
    check_own(here, named=False)
    here.need(here.encoder)
    if folder.exists() and not folder.is_dir():
        raise SslkitError(f"{folder} is a file: name a folder to export to")
    _check_free(folder, force)

    from sslkit.export.formats.formats import FORMATS
    from sslkit.weights.read import load_encoder

    encoder = load_encoder(here.encoder, here.encoder_info)
    # Made beside its place and moved there whole.
    place = folder.resolve()
    making = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        FORMATS[format.value](encoder, making)
        (making / "README.md").write_text(_card(here, encoder, format.value))
        if place.exists():
            shutil.rmtree(place)
        making.replace(place)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    lines = [f"{folder}: {', '.join(files)}", "README.md says how to load it"]
    show({"folder": str(folder), "format": format.value, "files": files}, lines, json)


def _check_free(folder: Path, force: bool) -> None:
    """Only an export is ever replaced.

    Raises:
        SslkitError: the folder holds something else, or an export and there is no ``--force``.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    card = folder / "README.md"
    if not (card.is_file() and MARK in card.read_text(errors="ignore")):
        raise SslkitError(f"{folder} is not empty and holds no earlier export: name a new folder")
    if not force:
        raise SslkitError(f"{folder} is not empty: name a new folder, or replace it with --force")


def _card(run: Run, encoder: Any, format: str) -> str:
    from sslkit.export.card import Facts, render
    from sslkit.files import read_json

    training = run.record("pretrain") or {}
    return render(
        Facts(
            name=run.path.resolve().name,
            format=format,
            info=read_json(run.encoder_info),
            vit=encoder.vit,
            parameters=sum(p.numel() for p in encoder.model.parameters()),
            recipe=training.get("config", {}),
            data=_data(run),
            scores=_scores(run),
            command=training.get("command", ""),
            versions=training.get("versions", {}),
            collapse=training.get("results", {}).get("collapse") or {},
        )
    )


def _data(run: Run) -> Result:
    from sslkit.files import read_json

    return read_json(run.manifest) if run.manifest.exists() else {}


def _scores(run: Run) -> "list[Score]":
    """Every accuracy of this encoder, on the run's own data and on other data; without those of baselines."""
    from sslkit.export.card import Score
    from stages.evaluations.results import TOP1
    from stages.reporting.facts import read_facts

    facts, found = read_facts(run.path, run.path.name), []
    own, _ = facts.data()
    for evaluation in facts.member.evaluations.values():
        stage = evaluation.stage
        if evaluation.metric != TOP1 or stage.weights not in (None, "run"):
            continue
        top1, half = None if stage.stale else evaluation.value, stage.draws.half if stage.draws else None
        k = stage.settled.get("k")
        found.append(Score(evaluation.full_name, stage.on or own, top1, k, stage.images, half))
    return found
