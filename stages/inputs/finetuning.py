"""What ``sslkit finetune`` does in a run: trainings one after another, each of which goes on where it was stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.contract.output import say
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from sslkit.data.shards import Split
    from sslkit.device import Precision as Bits
    from sslkit.encoder.encoder import Encoder
    from sslkit.probes.finetuning.finetune import FineTune, Settings
    from sslkit.probes.finetuning.prediction import Judged, Picked


FEW_STEPS = 10  # of a training; below, it is said


@dataclass(frozen=True)
class Labelling:
    """Where labels come from."""

    label_fraction: float
    self_train: bool
    confidence: float | None


@dataclass(frozen=True)
class Choice:
    """What held-out images chose: a learning rate, and the share of its run after which to stop."""

    lr: float
    share_of_run: float = 1.0
    held_out_top1: float = -1.0  # nothing was held out


@dataclass
class Job:
    """Fine-tuning under way: one training after another, each of which goes on where it was stopped."""

    run: Run
    source: EncoderSource
    about: Settings
    labels: Labelling
    early_stop: bool
    device: torch.device
    precision: Bits
    workers: int

    def perform(self, stage: Stage, variant: str, force: bool) -> Result:
        """Do it under the stage contract."""
        return perform(
            self.run,
            stage,
            variant=variant,
            prepare=self.check,
            work=lambda folder, _: self.work(folder),
            config={
                **self.source.config(),
                **asdict(self.about),
                **asdict(self.labels),
                "early_stop": self.early_stop,
                "precision": self.precision,
            },
            inputs={"data": self.run.manifest, **self.source.files},
            how={"device": str(self.device), "workers": self.workers},
            force=force,
        )

    def check(self) -> None:
        """Open the images and the encoder, and refuse what cannot be done with them.

        Raises:
            SslkitError: labels that are not there, or an encoder that the settings do not fit.
        """
        from sslkit.data.labels import share
        from sslkit.data.shards import open_split
        from sslkit.probes.classify.linear import HELD_OUT, hold_out

        self.train, val = (open_split(self.run.data, name) for name in ("train", "val"))
        self.kept = share(self.train.labels, self.labels.label_fraction, self.about.seed)
        self.others = self._others(self.kept)
        self.judged_on = _labelled(val)
        if not len(self.kept) or not len(self.judged_on):
            raise SslkitError(f"{self.run.data} has no labels in train or val: prepare from class folders")
        labels = self.train.labels[self.kept]
        self.parts = hold_out(labels, HELD_OUT, self.about.seed) if self.chooses else None
        self.start = self._encoder()
        self._method(self._picked(self.kept), self.about.lr[0], 0)

    @property
    def chooses(self) -> bool:
        """Whether anything is chosen on held-out images."""
        return len(self.about.lr) > 1 or self.early_stop

    def work(self, folder: Path) -> Result:
        """Choose, train, judge, write; after ``check``."""
        self.run.remember_data()
        kept, judged_on = self.kept, self.judged_on
        choice, sweep = self._choose(folder, self._picked(kept))
        first = self._trained(folder / "round-1" if self.labels.self_train else folder, self._picked(kept), choice)
        final, verdict = first, self._judge(first, judged_on)
        rounds = [_round(first, verdict)]
        if self.labels.self_train:
            labelled, report = self._pseudo_labelled(first, kept, self.others)
            rounds[0]["pseudo_labels"] = report
            if report["taken"]:
                final = self._trained(folder, labelled, choice)
                verdict = self._judge(final, judged_on)
                rounds.append(_round(final, verdict))
            else:
                say(f"no prediction reaches --confidence {self.labels.confidence:g}: there is no second round")
        results = self._results(choice, sweep, rounds, len(judged_on))
        self._write(folder, final, verdict, judged_on, results)
        return results

    def _picked(self, rows: np.ndarray) -> Picked:
        from sslkit.probes.finetuning.prediction import Picked

        return Picked(self.train, rows, self.train.labels[rows])

    def _others(self, kept: np.ndarray) -> np.ndarray:
        """The train images without a label, or whose label is not used."""
        import numpy as np

        others = np.setdiff1d(np.arange(len(self.train)), kept)
        if self.labels.self_train and not len(others):
            raise UsageError("--self-train: every train image has its label; give --label-fraction, such as 0.1")
        return others

    def _encoder(self) -> Encoder:
        """The encoder at the start, for images normalised by ImageNet's statistics."""
        import torch

        from sslkit.probes.finetuning.finetune import expect_imagenet_statistics

        # On the CPU: training copies it to the device.
        start = build(self.source, torch.device("cpu"), self.precision)
        expect_imagenet_statistics(start.encoder, start.mean, start.std)
        return start.encoder

    def _choose(self, folder: Path, images: Picked) -> tuple[Choice, list[Result]]:
        """The learning rate and the end that are best on a held-out tenth of the labelled images; never on val."""
        from sslkit.files import read_rows

        if self.parts is None:
            return Choice(self.about.lr[0]), []
        rest, held = (self._picked(images.rows[part]) for part in self.parts)
        choices = []
        for lr in self.about.lr:
            place = folder / "sweep" / f"lr-{lr:g}"
            self._trained(place, rest, Choice(lr), held)
            looks = [row for row in read_rows(place / "metrics.jsonl") if "held_out_top1" in row]
            # The first of equals: the earlier end, and below the smaller rate.
            found = max(looks, key=lambda row: row["held_out_top1"])
            choices.append(Choice(lr, found["step"] / looks[-1]["step"], found["held_out_top1"]))
            say(f"lr {lr:g}: {choices[-1].held_out_top1:.2f} % right of {len(held)} held-out train images")
        return max(choices, key=lambda choice: choice.held_out_top1), [asdict(choice) for choice in choices]

    def _trained(self, folder: Path, images: Picked, choice: Choice, held: Picked | None = None) -> FineTune:
        """A fine-tuned model; with held-out images they are looked at in the end, or every epoch for an early stop."""
        import torch

        from sslkit.data.loader import batches, in_memory
        from sslkit.data.order import Order
        from sslkit.data.views import ViewMaker
        from sslkit.distributed.process_group import World
        from sslkit.training.loop import Trainer

        method = self._method(images, choice.lr, 0 if held is None else 1 if self.early_stop else float("inf"))
        recipe, seed = method.recipe, self.about.seed
        order = Order(samples=len(images), batch_size=recipe.train.batch_size, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(
            recipe=recipe,
            method=method,
            steps_per_epoch=order.steps_per_epoch,
            device=self.device,
            precision=self.precision,
            world=World(),
            checkpoint_path=folder / "checkpoint.pt",
            metrics_path=folder / "metrics.jsonl",
            evaluate=lambda: {"held_out_top1": self._judge(method, held).top(1)} if held else {},
            features=lambda: torch.empty(0),
            keep=lambda epoch: None,
            say=say,
        )
        # An early stop leaves the schedule as it is.
        trainer.total = max(1, round(choice.share_of_run * trainer.total))
        if trainer.total < FEW_STEPS:
            steps = "1 step" if trainer.total == 1 else f"{trainer.total} steps"
            say(f"only {steps}: that hardly trains anything; try more --epochs or a smaller --batch-size")
        patch = self.start.patch_size if self.start.vit else 1
        views, pin = ViewMaker(recipe.views, recipe.encoder.image_size, patch, seed), self.device.type == "cuda"
        trainer.train(batches(in_memory(images), views, order, trainer.step, trainer.total, self.workers, pin))
        return method

    def _method(self, images: Picked, lr: float, every: float) -> FineTune:
        """The model before its first step."""
        import torch

        from sslkit.methods.base import DataFacts
        from sslkit.probes.finetuning.finetune import FineTune, recipe_for

        recipe = recipe_for(self.about, self.start.spec, lr, len(images), self.precision, every)
        torch.manual_seed(self.about.seed)  # the classifier's first weights
        facts = DataFacts(samples=len(images), classes=len(self.train.classes))
        method = FineTune(recipe, facts, self.start, self.about).to(self.device)
        method.suit_device(self.device, recipe.train.compile)
        return method

    def _judge(self, method: FineTune, images: Picked) -> Judged:
        from sslkit.probes.finetuning.prediction import predict

        return predict(method.judged(), images, self.device, self.precision)

    def _pseudo_labelled(self, method: FineTune, kept: np.ndarray, others: np.ndarray) -> tuple[Picked, Result]:
        """The labelled images and those that the model is sure of; and a report on the latter."""
        import numpy as np

        from sslkit.probes.finetuning.prediction import Picked
        from sslkit.probes.finetuning.pseudo_labels import confident

        unknown = Picked(self.train, others, np.full(len(others), -1))
        assert self.labels.confidence is not None
        found = confident(
            self._judge(method, unknown), others, self.train.labels[others], float(self.labels.confidence)
        )
        rows, labels = np.append(kept, found.rows), np.append(self.train.labels[kept], found.labels)
        return Picked(self.train, rows, labels), found.report

    def _results(self, choice: Choice, sweep: list[Result], rounds: list[Result], val: int) -> Result:
        chosen: Result = {"lr": choice.lr, "share_of_run": choice.share_of_run}
        held_out = {"held_out_top1": choice.held_out_top1, "sweep": sweep} if sweep else {}
        protocol = {
            key: value for key, value in asdict(self.about).items() if key not in ("lr", "epochs", "batch_size")
        }
        return {
            "top1": rounds[-1]["top1"],
            "top5": rounds[-1]["top5"],
            "chosen": chosen,
            **held_out,
            "labels": rounds[0]["images"],
            "val_images": val,
            "rounds": rounds,
            "start": self.source.kind,
            "protocol": {**protocol, "pool": self.about.pool or "cls", "precision": self.precision},
        }

    def _write(self, folder: Path, method: FineTune, judged: Judged, val: Picked, results: Result) -> None:
        import numpy as np
        import safetensors.torch

        from sslkit.files import atomic, write_json
        from sslkit.weights.write import save_encoder

        classifier = method.judged()
        save_encoder(classifier.encoder, folder / "encoder.safetensors", folder / "encoder.json", "student")
        head = {k: v.detach().cpu().contiguous() for k, v in classifier.head.state_dict().items()}
        with atomic(folder / "head.safetensors") as handle:
            handle.write(safetensors.torch.save(head))
        with atomic(folder / "predictions.npz") as handle:
            np.savez(handle, rows=val.rows, labels=val.labels, predicted=judged.predicted)
        write_json(folder / "results.json", results)
        for checkpoint in folder.rglob("checkpoint.pt"):
            checkpoint.unlink()  # four times the weights, for each training; there is nothing left to go on with


def _labelled(split: Split) -> Picked:
    import numpy as np

    from sslkit.probes.finetuning.prediction import Picked

    rows = np.flatnonzero(split.labels >= 0)
    return Picked(split, rows, split.labels[rows])


def _round(method: FineTune, judged: Judged) -> Result:
    train, images = method.recipe.train, method.facts.samples
    done = {"images": images, "epochs": train.epochs, "batch_size": train.batch_size}
    return {**done, "top1": judged.top(1), "top5": judged.top(5)}
