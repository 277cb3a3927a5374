"""``sslkit finetune``: the encoder learns on with a linear classifier; val is read once for each round, at the end."""

import os
from enum import Enum
from typing import Annotated, Optional

import typer

from sslkit.errors import UsageError
from stages.contract.layout import Result
from stages.contract.output import show, table
from stages.contract.stage import Stage
from stages.inputs.finetuning import Job, Labelling
from stages.inputs.labels import labels_variant
from stages.options.basic import (
    ForceOption,
    JsonOption,
    LabelFractionOption,
    PatchSizeOption,
    RunArgument,
    WorkersOption,
)
from stages.options.encoder import EncoderChoice, takes_encoder
from stages.options.tuning import Tuning, takes_tuning

CONFIDENCE = 0.9


class Start(str, Enum):
    """What the weights are at the start."""

    encoder = "encoder"
    random = "random"


STAGE = Stage(
    name="finetune",
    help="Evaluate the encoder by training all of it.",
    order=70,
    folder="finetune",
    title="fine-tuned",
    evaluates=True,
    protocol=(
        *("lr", "epochs", "batch_size", "weight_decay", "layer_decay", "drop_path", "mixup", "cutmix", "smoothing"),
        *("ema", "clip", "warmup", "crop", "jitter", "pool", "unfreeze"),
        *("label_fraction", "self_train", "confidence", "early_stop"),
    ),
    variants={"random": "random weights, fine-tuned"},
)


@STAGE.command
@takes_encoder
@takes_tuning
def finetune(
    run: RunArgument,
    *,
    start: Annotated[Start, typer.Option("--from", help="random: the same architecture, untrained.")] = Start.encoder,
    label_fraction: LabelFractionOption = None,
    self_train: Annotated[
        bool, typer.Option("--self-train", help="Second round, with confident predictions as further labels.")
    ] = False,
    confidence: Annotated[
        Optional[float],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option(
            "--confidence",
            min=0,
            max=1,
            help=f"Of the predictions that --self-train takes. Default: {CONFIDENCE}.",
            show_default=False,
        ),
    ] = None,
    unfreeze: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--unfreeze", min=0, metavar="N", help="Train only the last N blocks; 0: the head alone."),
    ] = None,
    early_stop: Annotated[
        bool, typer.Option("--early-stop", help="Choose the epoch to stop at on held-out train, too.")
    ] = False,
    tuning: Tuning,
    encoder: EncoderChoice,
    image_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--image-size", min=1, help="Pixels; default: the trained encoder's, or 224."),
    ] = None,
    patch_size: PatchSizeOption = None,
    workers: WorkersOption = "auto",
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Train the whole encoder with a classifier, by the protocol of BEiT and MAE; rerun the same command to resume."""
    few = labels_variant(label_fraction)
    if confidence is not None and not self_train:
        raise UsageError(f"--confidence {confidence:g} is of the predictions that --self-train takes: add it")
    here = encoder.open(run)
    if start == Start.random:
        if encoder.weights is not None or encoder.arch is not None or encoder.pretrained:
            raise UsageError("--from random is the run's own architecture; name another by --weights random --arch")
        encoder = encoder.random()
    source = encoder.source(here, image_size, patch_size)
    here.need(here.manifest)
    if source.spec is None:
        raise UsageError("--weights pixels: there is nothing to fine-tune; take a run's encoder, a FILE or random")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("finetune runs as one process: start it without torchrun")

    from sslkit.probes.finetuning.finetune import settings
    from sslkit.workers import worker_count

    where, bits = encoder.place()
    given = {**tuning, "unfreeze": unfreeze, "seed": encoder.seed}
    about = settings(source.image_size, source.kind == "random", self_train, **given)
    sure = CONFIDENCE if confidence is None else confidence
    labels = Labelling(1.0 if label_fraction is None else label_fraction, self_train, sure if self_train else None)
    job = Job(here, source, about, labels, early_stop, where, bits, worker_count(workers, where))
    results = job.perform(STAGE, _variant(start, few, self_train, unfreeze), force)
    show(results, _lines(results), json)


def _variant(start: Start, few: str, self_train: bool, unfreeze: int | None) -> str:
    """What is measured, beside the tuning: "", or for instance "random-labels-0.01"."""
    words = [
        *(["random"] if start == Start.random else []),
        *([few] if few else []),
        *(["self-train"] if self_train else []),
        *([f"unfreeze-{unfreeze}"] if unfreeze is not None else []),
    ]
    return "-".join(words)


def _lines(results: Result) -> list[str]:
    chosen = results["chosen"]
    why = f", chosen by {results['held_out_top1']:.2f} % on held-out train" if "held_out_top1" in results else ""
    head = f"fine-tuned top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (lr {chosen['lr']:g}{why})"
    rows = [
        [number + 1, row["images"], f"{row['epochs']:g}", row["top1"], row["top5"]]
        for number, row in enumerate(results["rounds"])
    ]
    lines = [head, *table([["round", "labels", "epochs", "top1", "top5"], *rows])]
    report = results["rounds"][0].get("pseudo_labels")
    if report:
        right = "" if report["accuracy"] is None else f", {report['accuracy']:.1f} % of them right"
        lines.append(f"pseudo-labels: {report['taken']} of {report['of']} images{right}")
    return lines
