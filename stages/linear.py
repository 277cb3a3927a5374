"""``sslkit linear``: a linear probe whose setting is chosen on held-out train; val is evaluated once, at the end.

Variants: ``linear:augment`` trains on augmented crops, through the encoder once per epoch; ``linear:labels-0.01`` with
that share of the labels of train; ``linear:augment-labels-0.01`` both. Results are written at the end only, so an
interrupted probe starts again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import SslkitError, UsageError, number_of
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.contract.stale import changed_inputs
from stages.inputs.encoder import EncoderSource, build
from stages.inputs.enlarging import say_enlarged
from stages.inputs.features.labels import few_labels, labels_variant
from stages.inputs.features.splits import feature_files, features_info, open_splits, save_predictions
from stages.options.basic import (
    DataOptions,
    Device,
    DeviceOption,
    LabelFractionOption,
    ResultOptions,
    SeedOption,
    WorkersOption,
)

if TYPE_CHECKING:
    import torch

    from sslkit.probes.classify.augmented_linear import AugmentedCrops
    from sslkit.probes.classify.linear_sweep import LinearSettings
    from sslkit.probes.features.features import Features

STANDARDIZE_HELP = (
    "Centre and scale each feature by train's statistics; MAE's features require it. Off in DINO's protocol (learning "
    "rates then depend on the encoder's scale: widen --lr)."
)
AUGMENT_HELP = (
    "Learn from random crops and flips, passed through the encoder in every epoch, as the papers do. Slow; writes "
    "linear-augment/."
)

STAGE = Stage(
    name="linear",
    help="Evaluate features by a linear classifier.",
    order=50,
    folder="linear",
    expected=True,
    evaluates=True,
    protocol=(
        *("layers", "patch_mean", "standardize", "lr", "weight_decay"),
        *("epochs", "batch_size", "label_fraction", "crop_scale"),
    ),
)


@STAGE.command
@dataclass(kw_only=True)
class Linear(DataOptions, ResultOptions):
    """Train a linear classifier on frozen features: 20 settings at once, chosen on a held-out tenth of train."""

    layers: Annotated[
        int | None,
        typer.Option("--layers", min=1, help="Join the CLS of the last N blocks; 4 for DINO's ViT-S protocol."),
    ] = None
    patch_mean: Annotated[
        bool, typer.Option("--patch-mean", help="Add the mean of the patches; DINO's ViT-B protocol.")
    ] = False
    standardize: Annotated[bool, typer.Option("--standardize/--no-standardize", help=STANDARDIZE_HELP)] = True
    lr: Annotated[
        list[float] | None,
        typer.Option("--lr", help="Learning rate per 256 images; repeatable. Default: 0.003 to 0.3."),
    ] = None
    weight_decay: Annotated[
        list[float] | None,
        typer.Option("--weight-decay", help="Repeatable; each is tried with every --lr. Default: 0 to 0.01."),
    ] = None
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over train.")] = 100
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per step.")] = 1024
    label_fraction: LabelFractionOption = None
    augment: Annotated[bool, typer.Option("--augment", help=AUGMENT_HELP)] = False
    crop_scale: Annotated[
        tuple[float, float],
        typer.Option("--crop-scale", metavar="LOW HIGH", help="Crops of --augment: shares of the image's area."),
    ] = (0.08, 1.0)
    seed: SeedOption = 0
    device: DeviceOption = Device.auto
    workers: WorkersOption = "auto"

    def execute(self) -> None:
        """Train, evaluate, and print the accuracies."""
        low, high = self.crop_scale
        run = transferred(self.run, self.data)
        if not 0 < low <= high <= 1:
            raise typer.BadParameter(f"--crop-scale {low:g} {high:g}: must be two rising shares in (0, 1]")
        variant = "-".join(filter(None, ["augment" if self.augment else "", labels_variant(self.label_fraction)]))
        config: Result = {
            "layers": self.layers,
            "patch_mean": self.patch_mean,
            "standardize": self.standardize,
            "lr": self.lr or "sweep",
            "weight_decay": self.weight_decay or "sweep",
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            **({} if self.label_fraction is None else {"label_fraction": self.label_fraction}),
            **({"crop_scale": self.crop_scale} if self.augment else {}),
        }
        inputs, how = feature_files(run, _arrays(config)), {"device": self.device.value}
        source = extracted_from(run) if self.augment else None
        if source:
            inputs |= {"data": run.need(run.manifest), **source.files}
            how["workers"] = self.workers
        results = perform(
            run,
            STAGE,
            variant=variant,
            prepare=lambda: _prepare(run, config, source, self.device.value, self.workers),
            work=lambda folder, ready: _probe(folder, run, config, ready),
            config=config,
            inputs=inputs,
            how=how,
            force=self.force,
        )
        show(results, _lines(results), self.json)


def _arrays(config: Result) -> list[str]:
    """The arrays that are joined row by row."""
    return ["cls" if config["layers"] is None else "blocks", *(["patch_mean"] if config["patch_mean"] else [])]


def extracted_from(run: Run) -> EncoderSource:
    """The encoder that the features of a run come from.

    Raises:
        UsageError: the features come from raw pixels or from another program.
        SslkitError: the encoder's files are gone or changed.
    """
    record = run.record("extract")
    if record is None:
        raise UsageError(
            f"--augment requires the encoder of {run.features}, but another program made these features: leave it out"
        )
    config, read = record["config"], record["inputs"]
    if config["encoder"] is None:
        raise UsageError(f"--augment requires an encoder, but the features of {run.path} are raw pixels: leave it out")
    files = {name: run.path / read[name]["path"] for name in ("weights", "encoder_info") if name in read}
    changed = set(changed_inputs(run, "extract"))
    if changed & {*files, "data"}:
        named = ", ".join(sorted(changed))
        raise SslkitError(f"{named} changed since the features of {run.path} were made: redo `sslkit extract` first")
    return EncoderSource(config["weights"], config["encoder"], config["image_size"], files, config["seed"])


@dataclass(frozen=True)
class LinearInputs:
    """The features, opened and checked, and how to train on them; ``crops`` is for ``--augment``."""

    train: "Features"
    val: "Features"
    settings: "LinearSettings"
    device: "torch.device"
    crops: "AugmentedCrops | None"


def _prepare(run: Run, config: Result, source: EncoderSource | None, device: str, workers: str) -> LinearInputs:
    """Open the features and check that a probe can be trained on them.

    Raises:
        SslkitError: splits that do not fit, NaN, one class only, or too few labels to choose by.
    """
    from sslkit.device import pick_device
    from sslkit.probes.classify.linear_sweep import HELD_OUT, LEARNING_RATES, WEIGHT_DECAYS, LinearSettings, plan_sweep
    from sslkit.probes.features.features import check_finite, check_pair
    from sslkit.workers import worker_count

    place = pick_device(device)
    loaders = worker_count(workers, place)
    settings = LinearSettings(
        learning_rates=LEARNING_RATES if config["lr"] == "sweep" else config["lr"],
        weight_decays=WEIGHT_DECAYS if config["weight_decay"] == "sweep" else config["weight_decay"],
        few="label_fraction" in config,
        **{key: config[key] for key in ("epochs", "batch_size", "standardize", "seed")},
    )
    train, val = open_splits(run, _arrays(config), config["layers"])
    train = few_labels(train, config)
    check_pair(train, val)
    held = len(plan_sweep(train, settings).held)
    if held > 1 + HELD_OUT * len(train):
        say(
            f"{held} of the {len(train)} labelled train images are held out to choose the settings by, at least one of "
            "each class; the final probe learns from all of them"
        )
    check_finite(train)  # one pass over the features, where training makes a hundred
    check_finite(val)
    crops = _crops(run, config, source, place, loaders) if source else None
    return LinearInputs(train, val, settings, place, crops)


def _crops(run: Run, config: Result, source: EncoderSource, device: "torch.device", workers: int) -> "AugmentedCrops":
    from sslkit.data.shards import open_split
    from sslkit.probes.classify.augmented_linear import AugmentedCrops
    from sslkit.probes.features.extraction import EncoderEmbedding

    made = features_info(run)
    embedding = EncoderEmbedding(build(source, device, made["precision"]), made["last_blocks"])
    images, scale = open_split(run.data, "train"), config["crop_scale"]
    say_enlarged(run, source.image_size, ["train"])
    return AugmentedCrops(images, embedding, _arrays(config), config["layers"], made["batch_size"], workers, scale)


def _probe(folder: Path, run: Run, config: Result, ready: LinearInputs) -> Result:
    """Train, evaluate, and write everything at the end."""
    import safetensors.torch

    from sslkit.files import atomic, write_json
    from sslkit.probes.classify.augmented_linear import augmented_linear
    from sslkit.probes.classify.linear import linear

    train, val, settings = ready.train, ready.val, ready.settings
    if ready.crops:
        run.remember_data()
        found = augmented_linear(train, val, ready.crops, settings, ready.device, progress=True, report=say)
    else:
        found = linear(train, val, settings, ready.device, progress=True)
    if found.held_out_top1 is None:
        say(f"one label per class: none held out to choose by; took the middle setting, lr {found.chosen['lr']:g}")
    last = f"CLS of last {config['layers']}"
    results = found.summary(settings, " + ".join(last if name == "blocks" else name for name in _arrays(config)))
    if "label_fraction" in config:
        results["label_fraction"] = config["label_fraction"]
    if ready.crops:
        results |= {"augment": True, "crop_scale": config["crop_scale"]}
    with atomic(folder / run.linear_head.name) as handle:
        handle.write(safetensors.torch.save({"weight": found.weight, "bias": found.bias}))
    save_predictions(folder / "predictions.npz", val, found.predicted)
    write_json(folder / "results.json", results)
    return results


def _lines(results: Result) -> list[str]:
    from sslkit.probes.classify.choice import chosen_by, edge_remark

    chosen, held = results["chosen"], results["held_out_top1"]
    why = "the middle one, no label to choose by" if held is None else f"chosen by {chosen_by(results)}"
    head = (
        f"linear top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (lr {chosen['lr']:g}, weight decay "
        f"{chosen['weight_decay']:g}, {why})"
    )
    learnt = f"trained on {number_of(results['train_images'], 'image')} of train, "
    if results.get("augment"):
        learnt += "without those held out: for all of train, every crop would have to be encoded again"
    else:
        learnt += "those held out included: once chosen, the setting was trained again on all"
    rows = [
        [f"{row['lr']:g}", f"{row['weight_decay']:g}", "-" if held is None else row["held_out_top1"]]
        for row in results["sweep"]
    ]
    lines = [head, *([learnt] if held is not None else []), *table([["lr", "weight decay", "held-out top1"], *rows])]
    return [*lines, *filter(None, [edge_remark(chosen["lr"], results["sweep"])])]
