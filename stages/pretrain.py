"""``sslkit pretrain``: train an encoder on prepared images by a recipe; only ``supervised`` uses their labels."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit import registry
from sslkit.errors import UsageError, number_of
from sslkit.loggers.base import PACKAGE
from stages.contract.experiment import check_loggers, loggers_of
from stages.contract.layout import PRETRAIN, Result, Run, open_run
from stages.contract.lock import held
from stages.contract.output import say, show
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.method import suited
from stages.inputs.training import Training, open_training
from stages.inputs.watching import Watch
from stages.inputs.weights import Beginning, begin_from, find_weights
from stages.options.basic import DataOptions, Device, DeviceOption, ResultOptions, WorkersOption
from stages.options.recipe import RecipeOptions

if TYPE_CHECKING:
    import torch

    from sslkit.methods.base import Preview
    from sslkit.recipe.schema import Recipe

STAGE = Stage(
    name="pretrain",
    help="Train an encoder by a recipe.",
    order=20,
    folder=PRETRAIN,
    expected=True,
    shared=True,
    otherwise="to train on from its weights use a new run: sslkit pretrain NEW_RUN --data {run} --weights {run} ...",
    resumes_from=("checkpoint.pt",),
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
@dataclass(kw_only=True)
class Pretrain(RecipeOptions, DataOptions, ResultOptions):
    """Train an encoder by a recipe; rerun the same command to resume where an interrupted one stopped."""

    device: DeviceOption = Device.auto
    workers: WorkersOption = "auto"
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, print what would run, and stop.")] = False
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="With --dry-run: time some steps, and say how many epochs fit."),
    ] = None
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            "--logger",  # torchrun takes --log for its own, wherever it stands
            metavar="|".join(registry.names(PACKAGE)),
            help="Also show the run there (under torchrun: --logger): curves, pictures, later results; repeatable.",
        ),
    ] = None
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Short for --log tensorboard.")] = False
    attention_every: Annotated[
        float,
        typer.Option(
            "--attention-every",
            metavar="EPOCHS",
            min=0,
            help="Also draw attention maps at this interval, each at the next logged step.",
        ),
    ] = 0.0

    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE|RUN|timm:NAME",
            help="Start student and teacher from these weights; default: randomly initialised.",
            show_default=False,
        ),
    ] = None

    def execute(self) -> None:
        """Train, or with ``--dry-run`` say what that would take."""
        if self.minutes is not None and not self.dry_run:
            raise UsageError("--minutes says how many epochs fit: add --dry-run, then train with --epochs")
        watch = Watch((*(self.log or []), *(["tensorboard"] if self.tensorboard else [])), self.attention_every)
        check_loggers(watch.log)
        # What needs no tensor is looked at first: torch takes seconds to import.
        run = open_run(self.run, self.data)
        run.need(run.manifest)
        beginning = None
        for option, given in (("--weights", self.weights), ("--teacher", self.teacher)):
            if given is None:
                continue
            if run.pretrain.resolve() in [Path(given).resolve() / PRETRAIN, *Path(given).resolve().parents]:
                raise UsageError(f"{option} {given} is this run's own: train a new run from it")
            find_weights(given, option=option)
        recipe = self.recipe()
        if self.weights is not None:
            recipe, beginning = begin_from(self.weights, recipe)
        recipe = suited(run, recipe, self.weights)

        from sslkit.device import pick_device
        from sslkit.distributed.process_group import from_leader, process_group
        from sslkit.workers import worker_count

        device = pick_device(self.device.value)
        with process_group(device, f"pretrain {run.path.resolve()}", say) as world:

            @cache  # by whoever needs it first
            def opened() -> Training:
                with self.one_method(say if world.leads else None):
                    training = open_training(run, recipe, device, worker_count(self.workers, device), world, beginning)
                watch.check(training.opened.method.exported()[0])
                return training

            if self.dry_run:
                training = opened()
                results = training.cost() | (training.epochs_that_fit(self.minutes) if self.minutes else {})
                if world.leads:
                    show(results, [f"{key:>28}  {value}" for key, value in results.items()], self.json)
            elif world.leads:
                results = self._lead(run, recipe, device, opened, beginning, watch)
                if watch.log and results.get("up_to_date"):
                    with held(run.path, STAGE.name), loggers_of(run, watch.log, announce=True):
                        pass
                show(results, _lines(results), self.json)
            elif from_leader(False):
                opened().train(run.pretrain)

    def _lead(
        self,
        run: Run,
        recipe: "Recipe",
        device: "torch.device",
        opened: Callable[[], Training],
        beginning: Beginning | None,
        watch: Watch,
    ) -> Result:
        """Train under the stage contract, and let the other processes train along.

        The method is built first, so that contradictions leave no trace; but not, as it takes seconds, in a run that is
        done, unless only the method knows its teacher.
        """
        from sslkit.device import described, resolve_precision
        from sslkit.distributed.process_group import from_leader
        from sslkit.recipe.schema import as_dict
        from sslkit.recipe.sections import TaughtSection

        with ExitStack() as dismissal:
            dismissal.callback(from_leader, False)  # if anything is refused here, the others stop waiting
            precision, config = resolve_precision(recipe.train.precision, device), as_dict(recipe)
            config["train"]["precision"] = precision
            del config["train"]["checkpoint_blocks"]  # it changes no number, so a run may go on with it
            inputs = {"data": run.manifest}
            if beginning is not None:
                inputs |= beginning.inputs
                config |= beginning.config
            record = run.record(STAGE.name)
            if not record or record["status"] != "done" or isinstance(recipe.method, TaughtSection):
                training = opened()
                if training.opened.teacher is not None:
                    inputs |= training.opened.teacher.inputs
                    config["method"] |= training.opened.teacher.config

            def prepare() -> "tuple[Training, Preview]":
                training = opened()
                return training, training.first_views()

            def work(folder: Path, prepared: "tuple[Training, Preview]") -> Result:
                training, views = prepared
                dismissal.pop_all()
                from_leader(True)
                say(training.line(self.recipes or []))
                training.opened.draw(views, run.views)
                return training.train(folder, watch)

            run.remember_data()
            how = {"device": described(device, precision), **self._how(recipe, device)}
            return perform(
                run,
                STAGE,
                prepare=prepare,
                work=work,
                config=config,
                inputs=inputs,
                how=how,
                force=self.force,
            )

    def _how(self, recipe: "Recipe", device: "torch.device") -> Result:
        from sslkit.distributed.process_group import processes
        from sslkit.workers import worker_count

        return {
            "workers": worker_count(self.workers, device),
            "processes": processes(),
            **({"checkpoint_blocks": True} if recipe.train.checkpoint_blocks else {}),
            "recipes": self.recipes,
            **({"weights": self.weights} if self.weights else {}),
        }


def _lines(results: Result) -> list[str]:
    loss = "loss not finite" if results["loss"] is None else f"loss {results['loss']:.4f}"
    lines = [f"{results['encoder']}: {results['branch']} after {number_of(results['epochs'], 'epoch')}, {loss}"]
    if None not in (results.get("knn"), results.get("effective_rank")):
        lines.append(f"k-NN on part of train {results['knn']:.1f} %, effective rank {results['effective_rank']:.0f}")
    return [*lines, *results["warnings"]]
