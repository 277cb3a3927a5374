"""``sslkit finetune``: encoder and linear classifier trained together; val is evaluated once per round, at its end."""

from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build, resolve
from stages.inputs.enlarging import say_enlarged
from stages.inputs.features.labels import labels_variant
from stages.options.basic import LabelFractionOption, PatchSizeOption, ResultOptions, WorkersOption
from stages.options.encoder import EncoderOptions
from stages.options.tuning import TuningOptions

if TYPE_CHECKING:
    import numpy as np

    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.probes.finetuning.prediction import LabelledImages
    from sslkit.probes.finetuning.rounds import Choice, FineTuner, Round
    from sslkit.probes.finetuning.settings import FinetuneSettings

CONFIDENCE = 0.9


class Start(str, Enum):
    """The weights to start from."""

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
@dataclass(kw_only=True)
class Finetune(EncoderOptions, TuningOptions, ResultOptions):
    """Train the whole encoder with a classifier, by the protocol of BEiT and MAE.

    Rerun the same command to resume.
    """

    start: Annotated[Start, typer.Option("--from", help="random: the same architecture, randomly initialised.")] = (
        Start.encoder
    )
    label_fraction: LabelFractionOption = None
    self_train: Annotated[
        bool, typer.Option("--self-train", help="Train a second round with confident predictions as further labels.")
    ] = False
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            min=0,
            max=1,
            help=f"Smallest probability of a prediction that --self-train uses. Default: {CONFIDENCE}.",
            show_default=False,
        ),
    ] = None
    early_stop: Annotated[
        bool, typer.Option("--early-stop", help="Also choose the epoch to stop at, on held-out train.")
    ] = False
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Pixels; default: the trained encoder's, or 224.")
    ] = None
    patch_size: PatchSizeOption = None
    workers: WorkersOption = "auto"

    def execute(self) -> None:
        """Fine-tune, and print the accuracies."""
        few = labels_variant(self.label_fraction)
        run, source = self._source()

        from sslkit.probes.finetuning.settings import finetune_settings
        from sslkit.workers import worker_count

        device, precision = self.place()
        given = {**self.given(), "seed": self.seed}
        settings = finetune_settings(source.image_size, source.kind == "random", self.self_train, **given)
        sure = CONFIDENCE if self.confidence is None else self.confidence
        config: Result = {
            **source.config(),
            **asdict(settings),
            "label_fraction": 1.0 if self.label_fraction is None else self.label_fraction,
            "self_train": self.self_train,
            "confidence": sure if self.self_train else None,
            "early_stop": self.early_stop,
            "precision": precision,
        }
        workers = worker_count(self.workers, device)
        results = perform(
            run,
            STAGE,
            variant=_variant(self.start, few, self.self_train, settings.unfreeze),
            prepare=lambda: _prepare(run, settings, config, build(source, device, precision), workers),
            work=lambda folder, ready: _finetune(folder, run, source, config, ready),
            config=config,
            inputs={"data": run.manifest, **source.files},
            how={"device": self.place_described(), "workers": workers},
            force=self.force,
        )
        show(results, _lines(results), self.json)

    def _source(self) -> tuple[Run, EncoderSource]:
        """The run, and the encoder to start from.

        Raises:
            UsageError: options that do not go together.
        """
        if self.confidence is not None and not self.self_train:
            raise UsageError("--confidence requires --self-train")
        run, options = self.open_run(), self
        if self.start == Start.random:
            if self.weights is not None or self.arch is not None or self.pretrained:
                raise UsageError(
                    "--from random uses the run's own architecture; for another use --weights random --arch"
                )
            options = replace(self, weights="random")
        source = resolve(run, options, self.image_size, self.patch_size)
        run.need(run.manifest)
        if source.spec is None:
            raise UsageError("--weights pixels: there is nothing to fine-tune; name a run's encoder, a FILE or random")
        return run, source


def _variant(start: Start, few: str, self_train: bool, unfreeze: int | None) -> str:
    """What is measured, apart from the tuning: "", or for instance "random-labels-0.01"."""
    part = "" if unfreeze is None else f"unfreeze-{unfreeze}"
    words = ["random" if start == Start.random else "", few, "self-train" if self_train else "", part]
    return "-".join(filter(None, words))


@dataclass(frozen=True)
class FinetuneInputs:
    """Everything that fine-tuning needs, opened and checked.

    Attributes:
        tuner: trains.
        images: labelled train images to learn from.
        others: rows of train with labels that are missing or not used.
        val: labelled val images.
        parts: positions among ``images`` to learn from and to hold out; None where nothing is chosen.
    """

    tuner: "FineTuner"
    images: "LabelledImages"
    others: "np.ndarray"
    val: "LabelledImages"
    parts: "tuple[np.ndarray, np.ndarray] | None"


def _prepare(
    run: Run, settings: "FinetuneSettings", config: Result, start: "FrozenEncoder", workers: int
) -> FinetuneInputs:
    """Open the images, and refuse what cannot be done with them and the encoder.

    Raises:
        SslkitError: labels that are not there, or an encoder that the settings do not fit.
    """
    import numpy as np

    from sslkit.data.class_balanced import share
    from sslkit.data.shards import open_split
    from sslkit.probes.classify.linear_sweep import HELD_OUT, hold_out
    from sslkit.probes.finetuning.finetune import with_usual_statistics
    from sslkit.probes.finetuning.prediction import LabelledImages
    from sslkit.probes.finetuning.rounds import FineTuner

    train, val = (open_split(run.data, name) for name in ("train", "val"))
    kept = share(train.labels, config["label_fraction"], settings.seed)
    others, labelled = np.setdiff1d(np.arange(len(train)), kept), np.flatnonzero(val.labels >= 0)
    if config["self_train"] and not len(others):
        raise UsageError("--self-train: every train image has its label; give --label-fraction, such as 0.1")
    if not len(kept) or not len(labelled):
        raise SslkitError(f"{run.data} has no labels in train or val: prepare from class folders")
    choices = len(settings.lr) > 1 or config["early_stop"]
    parts = hold_out(train.labels[kept], HELD_OUT, settings.seed) if choices else None
    start = with_usual_statistics(start)
    say_enlarged(run, start.size)
    tuner = FineTuner(start, train, len(train.classes), settings, config["early_stop"], workers, say)
    images = tuner.labelled(kept)
    tuner.method(images, min(settings.lr))  # raises where the settings do not fit the encoder
    return FinetuneInputs(tuner, images, others, LabelledImages(val, labelled, val.labels[labelled]), parts)


def _finetune(folder: Path, run: Run, source: EncoderSource, config: Result, ready: FinetuneInputs) -> Result:
    """Choose, train, evaluate, write."""
    run.remember_data()
    choice, sweep = ready.tuner.choose(folder, ready.images, ready.parts)
    rounds = ready.tuner.rounds(folder, ready.images, ready.val, choice, ready.others, config["confidence"])
    results = _results(choice, sweep, rounds, source, ready)
    _write(folder, rounds[-1], ready.val, results)
    return results


def _results(
    choice: "Choice", sweep: list[Result], rounds: "list[Round]", source: EncoderSource, ready: FinetuneInputs
) -> Result:
    reports = [one.report() for one in rounds]
    settings, held = asdict(ready.tuner.settings), len(ready.parts[1]) if ready.parts else 0
    return {
        "top1": reports[-1]["top1"],
        "top5": reports[-1]["top5"],
        "chosen": {"lr": choice.lr, "share_of_run": choice.share_of_run},
        **({"held_out_top1": choice.held_out_top1, "held_out_images": held, "sweep": sweep} if sweep else {}),
        "labels": reports[0]["images"],
        "val_images": len(ready.val),
        "rounds": reports,
        "start": source.kind,
        "protocol": {
            **{key: value for key, value in settings.items() if key not in ("lr", "epochs", "batch_size")},
            "pool": settings["pool"] or "cls",
            "precision": ready.tuner.start.precision,
        },
    }


def _write(folder: Path, final: "Round", val: "LabelledImages", results: Result) -> None:
    import numpy as np
    import safetensors.torch

    from sslkit.files import atomic, write_json
    from sslkit.weights.write import save_encoder

    classifier = final.method.evaluated()
    save_encoder(classifier.encoder, folder / "encoder.safetensors", folder / "encoder.json", "student")
    head = {k: v.detach().cpu().contiguous() for k, v in classifier.head.state_dict().items()}
    with atomic(folder / "head.safetensors") as handle:
        handle.write(safetensors.torch.save(head))
    with atomic(folder / "predictions.npz") as handle:
        np.savez(handle, rows=val.rows, labels=val.labels, predicted=final.predictions.predicted)
    write_json(folder / "results.json", results)
    for checkpoint in folder.rglob("checkpoint.pt"):
        checkpoint.unlink()  # four times the weights for each training run, and nothing is left to resume


def _lines(results: Result) -> list[str]:
    from sslkit.probes.classify.choice import chosen_by, edge_remark

    chosen = results["chosen"]
    why = f", chosen by {chosen_by(results)}" if "held_out_top1" in results else ""
    head = f"fine-tuned top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (lr {chosen['lr']:g}{why})"
    rows = [
        [number + 1, row["images"], f"{row['epochs']:g}", row["top1"], row["top5"]]
        for number, row in enumerate(results["rounds"])
    ]
    lines = [head, *table([["round", "labels", "epochs", "top1", "top5"], *rows])]
    report = results["rounds"][0].get("pseudo_labels")
    if report:
        correct = "" if report["accuracy"] is None else f", {report['accuracy']:.1f} % of them correct"
        lines.append(f"pseudo-labels: {report['taken']} of {report['of']} images{correct}")
    return [*lines, *filter(None, [edge_remark(chosen["lr"], results.get("sweep", []))])]
