"""Fine-tuning in rounds: choose on held-out train, train, and optionally again with confident predictions as labels.

Every training run keeps its checkpoint in a separate folder, so that calling again resumes it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslkit.artifacts import DamagedFile, read_rows
from sslkit.data.loader import Images, batches, in_memory
from sslkit.data.order import Order
from sslkit.data.views import ViewMaker
from sslkit.distributed.process_group import World
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.methods.base import DataFacts
from sslkit.probes.finetuning.finetune import FineTune, recipe_for
from sslkit.probes.finetuning.prediction import UNLABELLED, LabelledImages, Predictions, predict
from sslkit.probes.finetuning.pseudo_labels import confident
from sslkit.probes.finetuning.settings import FinetuneSettings
from sslkit.training.loop import Trainer

FEW_STEPS = 10  # a shorter training run gets a warning


@dataclass(frozen=True)
class Choice:
    """The learning rate and the end of a run, chosen on held-out images."""

    lr: float
    share_of_run: float = 1.0  # after which to stop, in (0, 1]
    held_out_top1: float = -1.0  # percent; -1 where nothing was held out


@dataclass(frozen=True)
class Round:
    """One training run on all labels, and its predictions for val."""

    method: FineTune
    predictions: Predictions
    pseudo_labels: dict[str, Any] | None = None  # a report on those that it gave to other images

    def report(self) -> dict[str, Any]:
        """Images, epochs, batch size and accuracies in percent."""
        train = self.method.recipe.train
        return {
            "images": self.method.facts.samples,
            "epochs": train.epochs,
            "batch_size": train.batch_size,
            "top1": self.predictions.top(1),
            "top5": self.predictions.top(5),
            **({} if self.pseudo_labels is None else {"pseudo_labels": self.pseudo_labels}),
        }


@dataclass(frozen=True)
class FineTuner:
    """Fine-tunes copies of one encoder on a split, on the encoder's device and in its precision."""

    start: FrozenEncoder  # for images normalised by the statistics of its description
    images: Images
    classes: int
    settings: FinetuneSettings
    early_stop: bool  # also choose the epoch to stop at
    workers: int  # loader processes; their number never changes a result
    say: Callable[[str], None]  # called with remarks for the user

    def labelled(self, rows: np.ndarray) -> LabelledImages:
        """Some of the images with their own labels."""
        return LabelledImages(self.images, rows, self.images.labels[rows])

    def choose(
        self, folder: Path, images: LabelledImages, parts: tuple[np.ndarray, np.ndarray] | None
    ) -> tuple[Choice, list[dict[str, Any]]]:
        """The learning rate, and with an early stop the end, that are best on held-out images; never on val.

        ``parts`` are positions among the images to learn from and to hold out; None chooses nothing.

        Returns:
            The choice, and one dict per learning rate.
        """
        if parts is None:
            return Choice(self.settings.lr[0]), []
        rest, held = (self.labelled(images.rows[part]) for part in parts)
        choices = []
        for lr in self.settings.lr:
            place = folder / "sweep" / f"lr-{lr:g}"
            self.train(place, rest, Choice(lr), held)
            log = place / "metrics.jsonl"
            evaluations = [row for row in read_rows(log) if isinstance(row.get("held_out_top1"), float)]
            if not evaluations:
                raise DamagedFile(log, "the accuracies on held-out images are gone")
            # The first of equals: the earlier end, and below the smaller rate.
            best = max(evaluations, key=lambda row: row["held_out_top1"])
            choices.append(Choice(lr, best["step"] / evaluations[-1]["step"], best["held_out_top1"]))
            self.say(f"lr {lr:g}: {choices[-1].held_out_top1:.2f} % of {len(held)} held-out train images correct")
        return max(choices, key=lambda choice: choice.held_out_top1), [asdict(choice) for choice in choices]

    def rounds(
        self,
        folder: Path,
        images: LabelledImages,
        val: LabelledImages,
        choice: Choice,
        others: np.ndarray,
        confidence: float | None,
    ) -> list[Round]:
        """Train; with a confidence, train again with the predictions for the other images that reach it as labels.

        The last round trains in ``folder``, and each is evaluated once on ``val``. ``others`` are the rows of train
        without a label to learn from.
        """
        first = self.train(folder if confidence is None else folder / "round-1", images, choice)
        verdict = self.predict(first, val)
        if confidence is None:
            return [Round(first, verdict)]
        unlabelled = LabelledImages(self.images, others, np.full(len(others), UNLABELLED))
        found = confident(self.predict(first, unlabelled), others, self.images.labels[others], confidence)
        done = Round(first, verdict, found.report)
        if not len(found.rows):
            self.say(f"no prediction reaches --confidence {confidence:g}: there is no second round")
            return [done]
        rows, labels = np.append(images.rows, found.rows), np.append(images.labels, found.labels)
        second = self.train(folder, LabelledImages(self.images, rows, labels), choice)
        return [done, Round(second, self.predict(second, val))]

    def train(
        self, folder: Path, images: LabelledImages, choice: Choice, held: LabelledImages | None = None
    ) -> FineTune:
        """A fine-tuned model; held-out images are evaluated at the end, or every epoch for an early stop."""
        method = self.method(images, choice.lr, 0 if held is None else 1 if self.early_stop else float("inf"))
        recipe, seed = method.recipe, self.settings.seed
        order = Order(samples=len(images), batch_size=recipe.train.batch_size, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(
            recipe=recipe,
            method=method,
            steps_per_epoch=order.steps_per_epoch,
            device=self.start.device,
            precision=self.start.precision,
            world=World(),
            checkpoint_path=folder / "checkpoint.pt",
            metrics_path=folder / "metrics.jsonl",
            evaluate=lambda: {"held_out_top1": self.predict(method, held).top(1)} if held else {},
            features=lambda: torch.empty(0),
            keep=lambda epoch: None,
            say=self.say,
        )
        # An early stop leaves the schedule as it is.
        trainer.total = max(1, round(choice.share_of_run * trainer.total))
        if trainer.total < FEW_STEPS:
            steps = "1 step" if trainer.total == 1 else f"{trainer.total} steps"
            self.say(f"only {steps}: that hardly trains anything; try more --epochs or a smaller --batch-size")
        encoder, pin = self.start.encoder, self.start.device.type == "cuda"
        patch, channels = encoder.patch_size if encoder.vit else 1, encoder.spec.in_channels
        views = ViewMaker(recipe.views, recipe.encoder.image_size, patch, seed, channels)
        trainer.train(batches(in_memory(images), views, order, trainer.step, trainer.total, self.workers, pin))
        return method

    def method(self, images: LabelledImages, lr: float, every: float = 0) -> FineTune:
        """The model before its first step; ``every`` is that of ``recipe_for``.

        Raises:
            UsageError: settings that do not fit the encoder.
        """
        start, device = self.start.encoder, self.start.device
        recipe = recipe_for(self.settings, start.spec, lr, len(images), self.start.precision, every)
        torch.manual_seed(self.settings.seed)  # the classifier's first weights
        facts = DataFacts(samples=len(images), classes=self.classes)
        method = FineTune(recipe, facts, start, self.settings).to(device)
        method.suit_device(device, recipe.train.compile, self.start.precision)
        return method

    def predict(self, method: FineTune, images: LabelledImages) -> Predictions:
        """Predictions of the weights that are evaluated."""
        return predict(method.evaluated(), images, self.start.device, self.start.precision)
