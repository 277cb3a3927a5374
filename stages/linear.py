"""``sslkit linear``: a linear probe whose setting is chosen on held-out train, and whose val accuracy is read once.

Variants: ``linear:augment`` learns from augmented crops, through the encoder once per epoch; ``linear:labels-0.01``
from that share of the labels of train; ``linear:augment-labels-0.01`` both. What a try gives is written at its end, so
an interrupted one starts anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build
from stages.inputs.features import feature_files, save_predictions
from stages.inputs.labels import few_labels, labels_variant
from stages.options.basic import (
    DataOption,
    Device,
    DeviceOption,
    ForceOption,
    JsonOption,
    LabelFractionOption,
    RunArgument,
    SeedOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from sslkit.probes.classify.augmented_linear import AugmentedCrops
    from sslkit.probes.classify.linear import LinearResult
    from sslkit.probes.classify.linear_sweep import LinearSettings
    from sslkit.probes.features.features import Features

STANDARDIZE_HELP = (
    "Centre and scale each feature by train's statistics; needed by MAE. Off in DINO's protocol (learning rates then "
    "depend on the encoder's scale: widen --lr)."
)
AUGMENT_HELP = (
    "Learn from random crops and flips, through the encoder once per epoch, as the papers do; as a variant. Slow."
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
def linear(
    run: RunArgument,
    layers: Annotated[
        Optional[int],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--layers", min=1, help="Join the CLS of the last N blocks; 4 for DINO's ViT-S protocol."),
    ] = None,
    patch_mean: Annotated[
        bool, typer.Option("--patch-mean", help="Add the patch mean; DINO's ViT-B protocol.")
    ] = False,
    standardize: Annotated[bool, typer.Option("--standardize/--no-standardize", help=STANDARDIZE_HELP)] = True,
    lr: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("--lr", help="Learning rate per 256 images; repeatable. Default: 0.003 to 0.3."),
    ] = None,
    weight_decay: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("--weight-decay", help="Repeatable; every one with every --lr. Default: 0 to 0.01."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over train.")] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per step.")] = 1024,
    label_fraction: LabelFractionOption = None,
    augment: Annotated[bool, typer.Option("--augment", help=AUGMENT_HELP)] = False,
    crop_scale: Annotated[
        tuple[float, float],
        typer.Option("--crop-scale", metavar="LOW HIGH", help="Crops of --augment: shares of the image's area."),
    ] = (0.08, 1.0),
    seed: SeedOption = 0,
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    workers: WorkersOption = "auto",
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Train a linear classifier on frozen features: 20 settings at once, chosen on a held-out tenth of train."""
    here = transferred(run, data)
    if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
        raise typer.BadParameter(f"--crop-scale {crop_scale[0]:g} {crop_scale[1]:g}: two rising shares in (0, 1]")
    variant = "-".join(filter(None, ["augment" if augment else "", labels_variant(label_fraction)]))
    arrays = [name for name, wanted in _arrays(layers, patch_mean).items() if wanted]
    config = {
        "layers": layers,
        "patch_mean": patch_mean,
        "standardize": standardize,
        "lr": lr or "sweep",
        "weight_decay": weight_decay or "sweep",
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        **({} if label_fraction is None else {"label_fraction": label_fraction}),
        **({"crop_scale": crop_scale} if augment else {}),
    }
    inputs, how = feature_files(here, arrays), {"device": device.value}
    source = None
    if augment:
        source = extracted_from(here)
        inputs |= {"data": here.need(here.manifest), **source.files}
        how["workers"] = workers
    stage = f"linear:{variant}" if variant else "linear"

    probe = Probe(here, stage, arrays, config, device.value, workers, source)
    results = perform(
        here,
        STAGE,
        variant=stage.partition(":")[2],
        prepare=probe.check,
        work=lambda folder, _: probe.work(folder),
        config=config,
        inputs=inputs,
        how=how,
        force=force,
    )
    show(results, _lines(results), json)


def _arrays(layers: int | None, patch_mean: bool) -> dict[str, bool]:
    return {"cls": layers is None, "blocks": layers is not None, "patch_mean": patch_mean}


def extracted_from(run: Run) -> EncoderSource:
    """Where the features of a run come from, so that their encoder can be built again.

    Raises:
        UsageError: there is no encoder behind them that could be.
        SslkitError: the encoder's files are gone or changed.
    """
    record = run.record("extract")
    if record is None:
        raise UsageError(
            f"--augment goes through the encoder again, and {run.features} does not say which: its features are "
            "another program's; leave --augment out"
        )
    config, read = record["config"], record["inputs"]
    if config["encoder"] is None:
        raise UsageError(f"--augment goes through an encoder, and the features of {run.path} are raw pixels")
    files = {name: run.path / read[name]["path"] for name in ("weights", "encoder_info") if name in read}
    changed = set(run.stale("extract"))
    if changed & {*files, "data"}:
        named = ", ".join(sorted(changed))
        raise SslkitError(f"{named} changed since the features of {run.path} were made: redo `sslkit extract` first")
    return EncoderSource(config["weights"], config["encoder"], config["image_size"], files, config["seed"])


@dataclass
class Probe:
    """One probe of a run: what it reads, and how it is trained. ``check`` comes before ``work``."""

    run: Run
    stage: str
    arrays: Sequence[str]
    config: Result
    device_name: str
    workers: str
    source: EncoderSource | None

    def check(self) -> None:
        """Open the features, and refuse what cannot be learnt from them.

        Raises:
            SslkitError: splits that do not fit, NaN, one class only, or too few labels to choose by.
        """
        from sslkit.device import pick_device
        from sslkit.probes.classify.linear_sweep import plan_sweep
        from sslkit.probes.features.features import check_finite, check_pair
        from sslkit.workers import worker_count

        self.device = pick_device(self.device_name)
        self.loaders = worker_count(self.workers, self.device)
        self.train, self.val = (self._features(split) for split in ("train", "val"))
        self.train = few_labels(self.train, self.config)
        check_pair(self.train, self.val)
        plan_sweep(self.train, self._settings())
        check_finite(self.train)  # one pass over the features, of which training makes a hundred
        check_finite(self.val)

    def work(self, folder: Path) -> Result:
        """Train, judge, and write everything at the end."""
        import safetensors.torch

        from sslkit.files import atomic, write_json

        train, val, settings = self.train, self.val, self._settings()
        found = self._train(train, val, settings)
        if found.held_out_top1 is None:
            say(f"one label per class: none held out to choose by; took the middle setting, lr {found.chosen['lr']:g}")
        results = found.summary(settings, self._called()) | self._variant(len(train) - found.images)
        with atomic(folder / self.run.linear_head.name) as handle:
            handle.write(safetensors.torch.save({"weight": found.weight, "bias": found.bias}))
        save_predictions(folder / "predictions.npz", val, found.predicted)
        write_json(self.run.results(self.stage), results)
        return results

    def _features(self, split: str) -> "Features":
        from sslkit.probes.features.features import open_features

        files = [self.run.feature(split, name) for name in self.arrays]
        return open_features(files, self.run.feature(split, "labels"), self.config["layers"])

    def _settings(self) -> "LinearSettings":
        from sslkit.probes.classify.linear_sweep import LEARNING_RATES, WEIGHT_DECAYS, LinearSettings

        return LinearSettings(
            learning_rates=LEARNING_RATES if self.config["lr"] == "sweep" else self.config["lr"],
            weight_decays=WEIGHT_DECAYS if self.config["weight_decay"] == "sweep" else self.config["weight_decay"],
            few="label_fraction" in self.config,
            **{key: self.config[key] for key in ("epochs", "batch_size", "standardize", "seed")},
        )

    def _train(self, train: "Features", val: "Features", settings: "LinearSettings") -> "LinearResult":
        if self.source is None:
            from sslkit.probes.classify.linear import linear as probe

            return probe(train, val, settings, self.device, progress=True)
        from sslkit.probes.classify.augmented_linear import augmented_linear

        self.run.remember_data()
        return augmented_linear(train, val, self._crops(self.source), settings, self.device, progress=True, report=say)

    def _crops(self, source: EncoderSource) -> "AugmentedCrops":
        from sslkit.data.shards import open_split
        from sslkit.files import read_json
        from sslkit.probes.classify.augmented_linear import AugmentedCrops
        from sslkit.probes.features.extraction import EncoderEmbedding

        made = read_json(self.run.features_info)
        embedding = EncoderEmbedding(build(source, self.device, made["precision"]), made["last_blocks"])
        images = open_split(self.run.data, "train")
        scale, layers = self.config["crop_scale"], self.config["layers"]
        return AugmentedCrops(images, embedding, self.arrays, layers, made["batch_size"], self.loaders, scale)

    def _called(self) -> str:
        """The features by name."""
        last = f"CLS of last {self.config['layers']}"
        return " + ".join(last if name == "blocks" else name for name in self.arrays)

    def _variant(self, held: int) -> Result:
        """What a variant's results say beside the others'."""
        facts: Result = {"label_fraction": self.config["label_fraction"]} if "label_fraction" in self.config else {}
        if self.source:
            facts |= {"augment": True, "crop_scale": self.config["crop_scale"], "held_out_images": held}
        return facts


def _lines(results: Result) -> list[str]:
    chosen, held = results["chosen"], results["held_out_top1"]
    why = "the middle one, with no label to choose by" if held is None else f"chosen by {held:.2f} % on held-out train"
    head = (
        f"linear top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (lr {chosen['lr']:g}, weight decay "
        f"{chosen['weight_decay']:g}, {why})"
    )
    rows = [
        [f"{row['lr']:g}", f"{row['weight_decay']:g}", "-" if held is None else row["held_out_top1"]]
        for row in results["sweep"]
    ]
    return [head, *table([["lr", "weight decay", "held-out top1"], *rows])]
