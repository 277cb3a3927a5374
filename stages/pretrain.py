"""`sslkit pretrain`: train an encoder on prepared images by a recipe; only `supervised` looks at their labels."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import UsageError
from stages.contract.layout import PRETRAIN, Run, open_run
from stages.contract.output import say, show
from stages.contract.perform import nothing, perform
from stages.contract.stage import Stage
from stages.options.basic import DataOption, Device, DeviceOption, ForceOption, JsonOption, RunArgument, WorkersOption
from stages.options.recipe import takes_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from sslkit.data.loader import Images
    from sslkit.data.views import Batch
    from sslkit.device import Precision as Bits
    from sslkit.distributed.process_group import World
    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.recipe.schema import Recipe
    from sslkit.training.loop import Trainer


STAGE = Stage(
    name="pretrain",
    help="Train an encoder by a recipe.",
    order=20,
    folder=PRETRAIN,
    expected=True,
    home="encoder",
    requires="--recipe ...",
    gallery="What the model sees",
    pictures=[
        {
            "file": "views.png",
            "title": "Views of training images",
            "alt": "Crops as the model sees them, a row for each training image, and what a mask hides of them",
        }
    ],
)


@STAGE.command
@takes_recipe
def pretrain(
    run: RunArgument,
    recipe: Recipe,
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    workers: WorkersOption = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, print what would run, and stop.")] = False,
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0.01, help="With --dry-run: time some steps, and say how many epochs fit."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the log as TensorBoard events, too, into pretrain/tensorboard.")
    ] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train an encoder by a recipe; rerun the same command to resume where an interrupted one stopped."""
    from sslkit import device as devices
    from sslkit.distributed.process_group import process_group
    from sslkit.workers import worker_count

    if minutes is not None and not dry_run:
        raise UsageError("--minutes tells how many epochs fit: add --dry-run, then train with --epochs")
    if tensorboard:
        from sslkit.training.tensorboard import check_installed

        check_installed()
    place = open_run(run, data)
    place.need(place.manifest)
    where = devices.pick_device(device.value)
    with process_group(where) as world:
        job = _Job(place, recipe, where, worker_count(workers, where), world, tensorboard)
        if dry_run:
            results = job.describe() | (job.fit(minutes) if minutes else {})
            if world.leads:
                show(results, [f"{key:>28}  {value}" for key, value in results.items()], json)
            return
        results = job.perform(force)
    if world.leads:
        lines = [
            f"{results['encoder']}: {results['branch']} after {results['epochs']:g} epochs, loss {results['loss']:.4f}"
        ]
        if None not in (results.get("knn"), results.get("effective_rank")):
            lines.append(
                f"k-NN on part of train {results['knn']:.1f} %, effective rank {results['effective_rank']:.0f}"
            )
        show(results, [*lines, *results["warnings"]], json)


class _Job:
    """Everything a run needs, built before any data is read so that contradictions come first."""

    def __init__(self, run: Run, recipe: Recipe, device: torch.device, workers: int, world: World, events: bool):
        from sslkit.data.order import Order
        from sslkit.device import resolve_precision
        from sslkit.schedules import Moment
        from stages.inputs.method import open_method

        self.run, self.recipe, self.device, self.workers, self.world = run, recipe, device, workers, world
        self.events = events and world.leads
        self.precision: Bits = resolve_precision(recipe.train.precision, device)
        self.opened = open_method(run, recipe, device)
        self.method, self.views = self.opened.method, self.opened.views
        self.images: Images = self.opened.images
        self.order = Order(
            samples=len(self.images),
            batch_size=recipe.train.batch_size,
            accumulate=recipe.train.accumulate,
            rank=world.rank,
            world=world.size,
            seed=recipe.train.seed,
        )

        if not Moment(0, self.order.steps_per_epoch, recipe.train.epochs).total:
            raise UsageError(
                f"{recipe.train.epochs:g} epochs of {self.order.steps_per_epoch} steps are not one step: raise --epochs"
            )

    def perform(self, force: bool) -> dict[str, Any]:
        """Train under the stage contract; only the leader keeps the books."""
        from sslkit.distributed import process_group as distributed
        from sslkit.recipe.schema import as_dict

        if not self.world.leads:
            if not distributed.from_leader(True):
                return {}
            return self._train(self.run.pretrain)
        began = False

        def work(folder: Path) -> dict[str, Any]:
            nonlocal began
            began = True
            distributed.from_leader(True)
            return self._train(folder)

        try:
            config = as_dict(self.recipe)
            config["train"]["precision"] = self.precision
            self.run.remember_data()
            results = perform(
                self.run,
                STAGE,
                prepare=nothing,
                work=lambda folder, _: work(folder),
                config=config,
                inputs={"data": self.run.manifest},
                how={"device": str(self.device), "workers": self.workers, "processes": self.world.size},
                force=force,
            )
            if self.events and not began:
                self._events_of_log()
            return results
        finally:
            if not began:
                distributed.from_leader(False)

    def _train(self, folder: Path) -> dict[str, Any]:
        from sslkit.data.loader import in_memory
        from sslkit.diagnostics import collapses
        from sslkit.files import atomic, read_rows
        from sslkit.recipe.schema import dump
        from sslkit.weights.read import save_encoder

        recipe = self.recipe
        if self.world.leads:
            # Before much is decoded or compiled: a first forward pass finds what building the method could not, and
            # leaves nothing that would keep another recipe from being tried.
            self._draw_views()
            with atomic(self.run.recipe) as handle:
                handle.write(dump(recipe).encode())
        images = in_memory(self.images, self.opened.wants_objects)
        self.method.suit_device(self.device, recipe.train.compile)
        encoder, branch = self.method.exported()
        trainer = self._trainer(images, folder)
        with self._events(trainer):
            trainer.train(self._batches(images, trainer.step, trainer.total))
        if not self.world.leads:
            return {}
        save_encoder(encoder, self.run.encoder, self.run.encoder_info, branch)
        log = read_rows(self.run.metrics)
        last = [row for row in log if row.get("loss") is not None][-1]
        return {
            "encoder": str(self.run.encoder),
            "branch": branch,
            "epochs": recipe.train.epochs,
            "steps": trainer.total,
            "loss": last["loss"],
            "knn": last.get("knn"),
            "effective_rank": last.get("effective_rank"),
            "images_per_second": median(row["images_per_second"] for row in log if "images_per_second" in row),
            "warnings": last.get("warnings", []),
            "collapse": collapses(last),
        }

    def _events_of_log(self) -> None:
        """Events of a training that is over."""
        from sslkit.files import read_rows
        from sslkit.training.tensorboard import Events

        Events(self.run.events, read_rows(self.run.metrics)).close()

    @contextmanager
    def _events(self, trainer: Trainer) -> Iterator[None]:
        """TensorBoard events of the rows so far, and of those that the block logs."""
        if not self.events:
            yield
            return
        from sslkit.files import read_rows
        from sslkit.training.tensorboard import Events

        events = Events(self.run.events, read_rows(self.run.metrics))
        trainer.tell = events
        try:
            yield
        finally:
            events.close()

    def _trainer(self, images: Images, folder: Path) -> Trainer:
        """The loop, with its files in a folder."""
        from sslkit.training.loop import Trainer
        from sslkit.training.monitor import watcher
        from sslkit.weights.read import save_weights

        recipe, (encoder, _) = self.recipe, self.method.exported()
        return Trainer(
            recipe=recipe,
            method=self.method,
            steps_per_epoch=self.order.steps_per_epoch,
            device=self.device,
            precision=self.precision,
            world=self.world,
            checkpoint_path=folder / self.run.checkpoint.name,
            metrics_path=folder / self.run.metrics.name,
            evaluate=watcher(self._frozen(encoder), images, recipe.monitor, recipe.train.seed),
            features=lambda: self._all_features(encoder, images),
            keep=lambda epoch: save_weights(encoder, folder / "kept" / f"{epoch:08.2f}.safetensors"),
            say=say,
        )

    def _batches(self, images: Images, start: int, stop: int) -> Iterator[Batch]:
        from sslkit.data.loader import batches

        pin = self.device.type == "cuda"
        return batches(images, self.views, self.order, start, stop, self.workers, pin, self.opened.wants_objects)

    def _draw_views(self) -> None:
        """``views.png``: what the model would see of the first images at its first step."""
        if self.run.views.exists():
            return
        import torch

        from sslkit.schedules import Moment

        start = Moment(0, self.order.steps_per_epoch, self.recipe.train.epochs)
        with torch.no_grad():
            self.opened.draw(self.method.preview(self.opened.batch(6), start), self.run.views)

    def _frozen(self, encoder: Encoder) -> FrozenEncoder:
        """The encoder as evaluation takes it."""
        from sslkit.encoder.frozen import FrozenEncoder

        return FrozenEncoder(encoder, self.recipe.encoder.image_size, self.device, self.precision)

    def _all_features(self, encoder: Encoder, images: Images) -> torch.Tensor:
        """CLS of all training images, in the order of the dataset; each process computes its share."""
        import numpy as np

        from sslkit.distributed import process_group as distributed
        from sslkit.training.monitor import features_of

        distributed.same_buffers(encoder)
        mine = np.arange(self.world.rank, len(images), self.world.size)
        rows = features_of(self._frozen(encoder), images, mine)
        return distributed.gathered_rows(rows, len(images))

    def describe(self) -> dict[str, Any]:
        """What ``--dry-run`` prints."""
        from sslkit.training.estimate import estimate

        # Two images: enough for statistics of a batch.
        return estimate(self.method, self.opened.batch(2), self.recipe, self.order, self.precision)

    def fit(self, minutes: float) -> dict[str, Any]:
        """How many epochs fit into so many minutes on this machine, by some steps that are thrown away."""
        from tempfile import TemporaryDirectory

        from sslkit.data.loader import in_memory
        from sslkit.training.timing import TIMED, WARM, measure

        self.method.suit_device(self.device, self.recipe.train.compile)
        with TemporaryDirectory() as folder:
            images = in_memory(self.images, self.opened.wants_objects)
            timing = measure(self._trainer(images, Path(folder)), self._batches(images, 0, WARM + TIMED))
        return {
            "images per second": round(self.order.batch_size / timing.step, 1),
            "minutes per epoch": round(timing.epoch / 60, 3),
            "epochs that fit": round(60 * minutes / timing.epoch, 2),
        }
