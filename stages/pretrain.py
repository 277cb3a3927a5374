"""`sslkit pretrain`: train an encoder on prepared images, without their labels, by a recipe."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import UsageError
from stages.options import (
    DataOption,
    Device,
    DeviceOption,
    ForceOption,
    JsonOption,
    Precision,
    RunArgument,
    WorkersOption,
)
from stages.output import say, show
from stages.recipes import find
from stages.run import Run, open_run

if TYPE_CHECKING:
    import torch

    from sslkit.data.loader import Images
    from sslkit.data.views import ViewMaker
    from sslkit.device import Precision as Bits
    from sslkit.methods.base import Method
    from sslkit.recipe import Recipe
    from sslkit.training.distributed import World

# Flags that are short for a recipe key.
SHORT = {
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "optim.lr",
    "seed": "train.seed",
    "image_size": "encoder.image_size",
    "arch": "encoder.arch",
    "precision": "train.precision",
}


def pretrain(
    run: RunArgument,
    recipes: Annotated[
        Optional[list[str]],  # noqa: UP045  read at run time by typer
        typer.Option("--recipe", metavar="NAME", help="Recipe name or YAML file; several merge left to right."),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="Set one recipe key, as in mask.ratio=[0.1,0.5]."),
    ] = None,
    epochs: Annotated[Optional[float], typer.Option(help="Passes over the images.")] = None,  # noqa: UP045
    batch_size: Annotated[Optional[int], typer.Option(help="Images per step, over all processes.")] = None,  # noqa: UP045
    lr: Annotated[Optional[float], typer.Option(help="Peak learning rate per 256 images.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(min=0, help="Seed of every random choice.")] = None,  # noqa: UP045
    image_size: Annotated[Optional[int], typer.Option(help="Side of the encoder's images, pixels.")] = None,  # noqa: UP045
    arch: Annotated[Optional[str], typer.Option(help="A timm architecture.")] = None,  # noqa: UP045
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    precision: Annotated[Optional[Precision], typer.Option(help="auto, bf16 or fp32.")] = None,  # noqa: UP045
    workers: WorkersOption = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, print what would run, and stop.")] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train an encoder by a recipe; the same command goes on where an interrupted one stopped."""
    from sslkit import device as devices
    from sslkit.recipe import resolve
    from sslkit.training import distributed

    if not recipes:
        raise UsageError("name a recipe: --recipe dino, and a scale: --recipe small32 (`sslkit recipes` lists them)")
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "image_size": image_size, "arch": arch}
    given["precision"] = precision.value if precision else None
    overrides = [*(settings or []), *(f"{SHORT[key]}={value}" for key, value in given.items() if value is not None)]
    recipe = resolve([find(name) for name in recipes], overrides)

    place = open_run(run, data)
    place.need(place.manifest, "prepare")
    where = devices.pick_device(device.value)
    with distributed.world(where) as world:
        job = _Job(place, recipe, where, devices.workers(workers, where), world)
        if dry_run:
            results = job.describe()
            if world.leads:
                show(results, [f"{key:>28}  {value}" for key, value in results.items()], json)
            return
        results = job.perform(force)
    if world.leads:
        lines = [
            f"{results['encoder']}: {results['branch']} after {results['epochs']:g} epochs, loss {results['loss']:.4f}"
        ]
        if results.get("knn") is not None:
            lines.append(
                f"k-NN on part of train {results['knn']:.1f} %, effective rank {results['effective_rank']:.0f}"
            )
        show(results, [*lines, *results["warnings"]], json)


class _Job:
    """Everything a run needs, built before any data is read so that contradictions come first."""

    def __init__(self, run: Run, recipe: Recipe, device: torch.device, workers: int, world: World):
        import torch

        from sslkit import registry
        from sslkit.data.order import Order
        from sslkit.data.shards import open_split
        from sslkit.data.views import ViewMaker
        from sslkit.device import resolve_precision
        from sslkit.methods.base import Method

        self.run, self.recipe, self.device, self.workers, self.world = run, recipe, device, workers, world
        self.precision: Bits = resolve_precision(recipe.train.precision, device)
        torch.manual_seed(recipe.train.seed)  # the initial weights; everything else has its own key
        kind: type[Method] = registry.load("sslkit.methods", recipe.method, Method)
        self.method: Method = kind(recipe).to(device)
        encoder, _ = self.method.exported()
        patch = encoder.patch_size if encoder.vit else 1
        self.views: ViewMaker = ViewMaker(recipe.views, recipe.encoder.image_size, patch, recipe.train.seed)
        self.images: Images = open_split(run.data, "train")
        self.order = Order(
            samples=len(self.images),
            batch_size=recipe.train.batch_size,
            accumulate=recipe.train.accumulate,
            rank=world.rank,
            world=world.size,
            seed=recipe.train.seed,
        )

    def perform(self, force: bool) -> dict[str, Any]:
        """Train under the stage contract; only the leader keeps the books."""
        from sslkit.recipe import as_dict
        from sslkit.training import distributed

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
            return self.run.perform(
                "pretrain",
                work,
                config=config,
                inputs={"data": self.run.manifest},
                how={"device": str(self.device), "workers": self.workers, "processes": self.world.size},
                force=force,
            )
        finally:
            if not began:
                distributed.from_leader(False)

    def _train(self, folder: Path) -> dict[str, Any]:
        from sslkit.data.loader import batches, in_memory
        from sslkit.recipe import dump
        from sslkit.training.log import rows
        from sslkit.training.loop import Trainer
        from sslkit.training.monitor import watcher
        from sslkit.weights import save_encoder

        recipe, images = self.recipe, in_memory(self.images)
        self.method.suit_device(self.device, recipe.train.compile)
        if self.world.leads:
            self.run.recipe.write_text(dump(recipe))
            self._draw_views(images)
        encoder, branch = self.method.exported()
        size, seed = recipe.encoder.image_size, recipe.train.seed
        trainer = Trainer(
            recipe=recipe,
            method=self.method,
            steps_per_epoch=self.order.steps_per_epoch,
            device=self.device,
            precision=self.precision,
            world=self.world,
            checkpoint_path=self.run.checkpoint,
            metrics_path=self.run.metrics,
            evaluate=watcher(encoder, images, recipe.monitor, size, seed, self.device, self.precision),
            say=say,
        )
        pin = self.device.type == "cuda"
        trainer.train(batches(images, self.views, self.order, trainer.step, trainer.total, self.workers, pin))
        if not self.world.leads:
            return {}
        save_encoder(encoder, self.run.encoder, self.run.encoder_info, branch)
        log = rows(self.run.metrics)
        last = [row for row in log if "loss" in row][-1]
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
        }

    def _draw_views(self, images: Images) -> None:
        """``views.png``: what the model sees at its first step."""
        if self.run.views.exists():
            return
        import numpy as np
        import torch

        from sslkit.data.loader import ViewBatches
        from sslkit.plots.views import draw_views
        from sslkit.schedules import Moment

        count = min(6, len(images))
        batch = ViewBatches(images, self.views)[0, np.arange(count)].to(self.device)
        with torch.no_grad():
            views, masks = self.method.preview(batch, Moment(0, self.order.steps_per_epoch, self.recipe.train.epochs))
        encoder, _ = self.method.exported()
        grid = encoder.grid(*views[0].shape[-2:]) if masks is not None else None
        draw_views(views, masks, grid, self.run.views)

    def describe(self) -> dict[str, Any]:
        """What ``--dry-run`` prints."""
        from sslkit.training.estimate import estimate

        return estimate(self.method, self.views, self.recipe, self.order, self.precision)
