"""What ``sslkit pretrain`` does in a run: the method, the images and the loop, with its files in the run's folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError, UsageError, noun_for, number_of
from stages.contract.layout import Result, Run
from stages.contract.output import say
from stages.inputs.method import OpenMethod, open_method
from stages.inputs.recipes import about_momentum, about_scale
from stages.inputs.watching import Watch, watched

if TYPE_CHECKING:
    import torch

    from sslkit.data.batch import Batch
    from sslkit.data.loader import Images
    from sslkit.data.order import Order
    from sslkit.device import Precision
    from sslkit.distributed.process_group import World
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.methods.base import Preview
    from sslkit.recipe.schema import Recipe
    from sslkit.training.loop import Trainer
    from stages.inputs.weights import Beginning

ROWS = 6  # images in the picture of the views


@dataclass(frozen=True)
class Training:
    """Everything that a training run needs, built before any image is read, so that contradictions come first."""

    run: Run
    recipe: "Recipe"
    opened: OpenMethod
    order: "Order"
    device: "torch.device"
    precision: "Precision"
    workers: int
    world: "World"
    started_from: Result | None = None

    def first_views(self) -> "Preview":
        """What the model sees of the first images at its first step.

        This forward pass finds what building the method could not, before much is decoded or compiled.
        """
        import torch

        from sslkit.schedules import Moment

        start = Moment(0, self.order.steps_per_epoch, self.recipe.train.epochs)
        with torch.no_grad():
            return self.opened.method.preview(self.opened.batch(ROWS), start)

    def line(self, recipes: Sequence[str]) -> str:
        """What is trained on what, and for how long, in one line."""
        from sslkit.schedules import Moment
        from stages.reporting.dataset import data_name

        steps = Moment(0, self.order.steps_per_epoch, self.recipe.train.epochs).total
        images, epochs = self.order.samples, self.recipe.train.epochs
        names = ", ".join(Path(name).stem for name in recipes)
        return (
            f"{names} on {data_name(self.run)}: {images:,} {noun_for(images, 'image')}, "
            f"{number_of(epochs, 'epoch')}, {steps:,} {noun_for(steps, 'step')}"
        )

    def train(self, folder: Path, watch: Watch | None = None) -> Result:
        """Train to the end, from the checkpoint in ``folder`` if there is one; the leading process logs and draws."""
        from sslkit.data.loader import in_memory
        from sslkit.files import atomic
        from sslkit.recipe.schema import dump
        from sslkit.training.memory import advised
        from sslkit.weights.write import save_encoder

        run, method, begun = self.run, self.opened.method, self.run.recipe.exists()
        if self.world.leads:
            with atomic(run.recipe, "w") as handle:
                handle.write(dump(self.recipe))
        images = in_memory(self.opened.images, self.opened.wants_objects)
        method.suit_device(self.device, self.recipe.train.compile, self.precision)
        trainer = self._trainer(images, folder, self._evaluation(images), begun=begun)
        batches = self._batches(images, trainer.step, trainer.total)
        with advised(self.recipe):
            if watch is None:
                trainer.train(batches)
            else:
                with watched(run, watch, trainer, images, self._frozen()) as trainer.tell:
                    trainer.train(batches)
        if not self.world.leads:
            return {}
        results = self._results(trainer)
        encoder, branch = method.exported()
        teacher = self.opened.teacher
        origins = {"started_from": self.started_from, "distilled_from": teacher and teacher.provenance()}
        origins["range"] = run.prepared().get("range")  # of the values that are 0 and 1 to it, where they are not bytes
        save_encoder(encoder, run.encoder, run.encoder_info, branch, origins)
        return {"encoder": str(run.encoder), "branch": branch, **results}

    def _results(self, trainer: "Trainer") -> Result:
        """The results of a finished run: from its checkpoint, which the log may have lost; its speed from the log.

        Raises:
            SslkitError: no step had a finite loss, or the checkpoint of an earlier version does not hold the results.
        """
        from sslkit.artifacts import read_rows
        from sslkit.diagnostics import collapses

        log, steps = read_rows(self.run.metrics), trainer.total
        if trainer.skipped >= steps:
            raise SslkitError(
                f"none of the {number_of(steps, 'step')} had a finite loss, so nothing was learnt: lower --lr, "
                "lengthen the warm-up, or use --precision fp32, and add --force"
            )
        if trainer.skipped + trainer.scale.overflows >= steps:
            raise SslkitError(
                f"all {steps} steps were skipped, most of them while fp16's loss scale halved from step to step, so "
                "nothing was learnt: raise --epochs, or use --precision fp32, and add --force"
            )
        last = trainer.last or next((row for row in reversed(log) if "loss" in row), None)
        if last is None:
            raise SslkitError(f"{self.run.metrics} is gone, and with it the results: --force trains again")
        return {
            "epochs": self.recipe.train.epochs,
            "steps": steps,
            "loss": last.get("loss"),
            "knn": last.get("knn"),
            "effective_rank": last.get("effective_rank"),
            "images_per_second": median([row["images_per_second"] for row in log if "images_per_second" in row] or [0])
            or None,
            "warnings": last.get("warnings", []),
            "collapse": collapses(last),
        }

    def cost(self) -> Result:
        """What the run would cost, and a remark if the device has too little memory for it; nothing is trained."""
        from sslkit.training.estimate import estimate
        from sslkit.training.memory import advised, crowded, free_memory

        with advised(self.recipe):
            # Two images: enough for statistics of a batch.
            found = estimate(self.opened.method, self.opened.batch(2), self.recipe, self.order, self.precision)
        if remark := crowded(1e6 * found["memory at the peak, MB"], self.device, self.recipe):
            say(remark)
        free = free_memory(self.device)
        return found if free is None else {**found, "memory free on the device, MB": round(free / 1e6, 1)}

    def epochs_that_fit(self, minutes: float) -> Result:
        """How many epochs fit into this time on this machine, from some steps that are thrown away."""
        from tempfile import TemporaryDirectory

        from sslkit.data.loader import in_memory
        from sslkit.training.memory import advised
        from sslkit.training.timing import TIMED, WARM, measure

        self.opened.method.suit_device(self.device, self.recipe.train.compile, self.precision)
        with TemporaryDirectory() as folder, advised(self.recipe):
            images = in_memory(self.opened.images, self.opened.wants_objects)
            trainer = self._trainer(images, Path(folder), evaluate=dict, quiet=True)
            timing = measure(trainer, self._batches(images, 0, WARM + TIMED), self._evaluation(images))
        return {
            "images per second": round(self.order.batch_size / timing.step, 1),
            "minutes per epoch": round(timing.epoch / 60, 3),
            "of these, training": round((timing.epoch - timing.between) / 60, 3),
            "of these, evaluation": round(timing.between / 60, 3),
            "epochs that fit": round(60 * minutes / timing.epoch, 2),
        }

    def _trainer(
        self,
        images: "Images",
        folder: Path,
        evaluate: Callable[[], dict[str, float]],
        quiet: bool = False,
        begun: bool = False,
    ) -> "Trainer":
        from sslkit.training.loop import Trainer
        from sslkit.weights.write import save_weights

        method, run = self.opened.method, self.run
        encoder, _ = method.exported()
        return Trainer(
            recipe=self.recipe,
            method=method,
            steps_per_epoch=self.order.steps_per_epoch,
            device=self.device,
            precision=self.precision,
            world=self.world,
            checkpoint_path=folder / run.checkpoint.name,
            metrics_path=folder / run.metrics.name,
            evaluate=evaluate,
            features=lambda: self._all_features(images),
            keep=lambda epoch: save_weights(encoder, folder / "kept" / f"{epoch:08.2f}.safetensors"),
            say=say,
            quiet=quiet,
            begun=begun,
            data=run.prepared().get("fingerprint", ""),
        )

    def _batches(self, images: "Images", start: int, stop: int) -> "Iterator[Batch]":
        from sslkit.data.loader import batches

        opened, pin = self.opened, self.device.type == "cuda"
        return batches(images, opened.views, self.order, start, stop, self.workers, pin, opened.wants_objects)

    def _frozen(self) -> "FrozenEncoder":
        """The encoder as evaluations take it."""
        from sslkit.encoder.frozen import FrozenEncoder

        encoder, _ = self.opened.method.exported()
        return FrozenEncoder(encoder, self.recipe.encoder.image_size, self.device, self.precision)

    def _evaluation(self, images: "Images") -> Callable[[], dict[str, float]]:
        from sslkit.training.monitor import watcher

        return watcher(self._frozen(), images, self.recipe.monitor, self.recipe.train.seed)

    def _all_features(self, images: "Images") -> "torch.Tensor":
        """CLS of all training images, in the order of the dataset; each process computes its share."""
        import numpy as np

        from sslkit.distributed.process_group import gathered_rows, same_buffers
        from sslkit.training.monitor import features_of

        frozen = self._frozen()
        same_buffers(frozen.encoder)
        mine = np.arange(self.world.rank, len(images), self.world.size)
        return gathered_rows(features_of(frozen, images, mine), len(images))


def open_training(
    run: Run,
    recipe: "Recipe",
    device: "torch.device",
    workers: int,
    world: "World",
    beginning: "Beginning | None" = None,
) -> Training:
    """Build a run's method and find out how many steps it has.

    Args:
        run: whose data it learns from.
        recipe: resolved.
        device: where the method goes.
        workers: of the data loader.
        world: this process among all.
        beginning: the weights to start from; None for random ones. A checkpoint of the run, which is read later, wins.

    Raises:
        UsageError: the recipe contradicts itself or the data.
    """
    from sslkit.data.order import Order
    from sslkit.device import resolve_precision
    from sslkit.schedules import Moment

    precision = resolve_precision(recipe.train.precision, device)
    opened, train = open_method(run, recipe, device), recipe.train
    order = Order(
        samples=len(opened.images),
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        rank=world.rank,
        world=world.size,
        seed=train.seed,
    )
    steps = Moment(0, order.steps_per_epoch, train.epochs).total
    if not steps:
        raise UsageError(f"{train.epochs:g} epochs of {order.steps_per_epoch} steps are not one step: raise --epochs")
    if world.leads:
        largest = run.prepared()["splits"]["train"].get("largest_image", ())
        scale = about_scale(recipe.views.global_.size or recipe.encoder.image_size, largest)
        teacher = recipe.teacher and about_momentum(recipe.teacher.momentum, steps, opened.method.exported()[1])
        for remark in filter(None, [*opened.remarks, scale, teacher]):
            say(remark)
    opened.method.rate_factors()  # refuses what it cannot do, before any image is read
    started_from = None
    if beginning is not None:
        parts = beginning.start.apply(opened.method)
        started_from = beginning.provenance(parts)
        if world.leads:
            say(beginning.line(parts))
    return Training(run, recipe, opened, order, device, precision, workers, world, started_from)
