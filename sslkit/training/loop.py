"""The one training loop: batch, loss, backward, clip, step, EMA, log. Every method runs through it."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from sslkit.artifacts import DamagedFile
from sslkit.data.batch import Batch
from sslkit.device import Precision, autocast
from sslkit.diagnostics import verdict
from sslkit.distributed import process_group as distributed
from sslkit.distributed.parallel import averaging_gradients
from sslkit.distributed.process_group import World
from sslkit.errors import InterruptedRun, SslkitError
from sslkit.methods.base import Method
from sslkit.optimizers import base as optim
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment
from sslkit.signals import Signals
from sslkit.training import checkpoint, gradients, log
from sslkit.training.clock import Clock
from sslkit.training.loss_scale import LossScale


@dataclass
class Trainer:
    """A training run, which starts where its checkpoint left off, or at the beginning."""

    recipe: Recipe
    method: Method  # on the device
    steps_per_epoch: int  # optimizer steps
    device: torch.device
    precision: Precision
    world: World
    checkpoint_path: Path
    metrics_path: Path  # of the log
    evaluate: Callable[[], dict[str, float]]  # more metrics (k-NN, ranks), now and then; they never affect the weights
    features: Callable[[], Tensor]  # CLS of all training images, for methods that learn from them between epochs
    keep: Callable[[float], None]  # keeps the encoder for good; called with the epoch, see ``train.keep_epochs``
    say: Callable[[str], None]  # prints a remark
    tell: Callable[[Mapping[str, Any]], None] = lambda row: None  # called with each row of the log once it is written
    quiet: bool = False  # show no progress bar
    begun: bool = False  # an earlier attempt was made, which may have died before its first checkpoint
    data: str = ""  # fingerprint of the images, where it is known
    step: int = 0
    meter: log.Meter = field(default_factory=log.Meter)
    skipped_in_a_row: int = 0
    skipped: int = 0  # steps, in all
    last: dict[str, Any] | None = None  # the last row with a finite loss, without what depends on the clock

    def __post_init__(self) -> None:
        self.optimizer = optim.build(self.method, self.recipe.optim, self.method.rate_factors())
        self.trained = [p for p in self.method.parameters() if p.requires_grad]
        self.modules = list(self.method.modules())
        self.total = self.at(0).total
        self.scale = LossScale(self.device, self.precision)
        self._recent: list[tuple[int, list[Tensor], Tensor]] = []  # step, samples and why it was skipped; since the log
        self._resume()

    def at(self, step: int) -> Moment:
        """The moment before an optimizer step."""
        return Moment(step, self.steps_per_epoch, self.recipe.train.epochs)

    def train(self, batches: Iterator[Batch]) -> None:
        """Train from ``self.step`` to the end and write a checkpoint.

        Raises:
            InterruptedRun: SIGINT or SIGTERM came; a checkpoint was written.
            SslkitError: several steps in a row were not finite.
        """
        self.advance(batches, self.total)
        self.save()
        if self.scale.overflows and self.world.leads:
            self.say(
                f"fp16: {self.scale.overflows} of {self.total} steps were skipped because the loss scale was too high; "
                "it halves at each, which is how it finds its level"
            )

    def advance(self, batches: Iterator[Batch], stop: int) -> None:
        """Train from ``self.step`` up to the step ``stop``, which ends a log interval; see ``train``."""
        clock = Clock(self.recipe.train.batch_size // self.recipe.train.accumulate)
        module = averaging_gradients(self.method)
        with Signals() as signals, self._bar() as bar:
            self._keep_encoder()
            while self.step < stop:
                at = self.at(self.step)
                if self.step % self.steps_per_epoch == 0:
                    self._begin_epoch(at, clock)
                rates = optim.schedule(self.optimizer, self.recipe.optim, self.recipe.train.batch_size, at)
                buffers = [(b, b.clone()) for m in self.modules for b in m._buffers.values() if b is not None]

                loss, statistics, samples = self._forward_backward(module, batches, clock, at)
                self.scale.unscale(self.optimizer)
                norm = optim.clip_each(self.trained, self.recipe.optim.clip)
                for parameter in self.method.frozen_parameters(at):
                    parameter.grad = None
                failed = distributed.any_of(~torch.isfinite(torch.stack([loss, norm])))
                bad = failed.any()
                optim.step_unless(self.optimizer, bad)
                overflow = self.scale.update(*failed.unbind())
                self.optimizer.zero_grad(set_to_none=True)
                self.method.after_step(distributed.mean(statistics), at)
                for buffer, before in buffers:
                    buffer.copy_(torch.where(bad, before, buffer))

                self.meter.add({"gradient_norm": norm})
                self.step += 1
                distributed.beat(f"step {self.step}")
                self._recent.append((self.step, samples, torch.stack([bad, overflow])))
                self._keep_encoder()
                bar.update()
                if self.step % self.recipe.monitor.log_steps == 0 or self.step == stop:
                    self._log(rates, clock, bar)
                self._keep_or_leave(signals, clock)

    def _forward_backward(
        self, module: torch.nn.Module, batches: Iterator[Batch], clock: Clock, at: Moment
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Gradients of one global batch; this process's mean loss, mean statistics and sample indices."""
        parts, statistics, samples = self.recipe.train.accumulate, {}, []
        loss = torch.zeros((), device=self.device)
        for part in range(parts):
            with clock.waiting():
                batch = next(batches).to(self.device)
            distributed.beat(f"the batch of step {at.step + 1}")
            # Gradients are exchanged once, with the last micro-batch.
            last = part == parts - 1
            quiet = module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()
            with quiet:
                with autocast(self.device, self.precision):
                    result = module(batch, at)
                distributed.beat(f"the forward pass of step {at.step + 1}")
                self.scale.apply(result.loss / parts).backward()
            loss += result.loss.detach() / parts
            self.meter.add(result.metrics)
            samples.append(batch.samples)
            for key, value in result.statistics.items():
                statistics[key] = statistics.get(key, 0) + value.detach() / parts
            every = self.recipe.monitor.gradient_steps
            if last and every and at.step % every == 0 and len(result.terms) > 1:
                names = list(result.terms)
                found = gradients.by_term(self.method, names, batch, at, self.device, self.precision, self.scale)
                self.meter.add(found)
        return loss, statistics, samples

    def _begin_epoch(self, at: Moment, clock: Clock) -> None:
        """Let the method look at the whole dataset; the time it takes is not the step's."""
        with distributed.unhurried(f"step {self.step}"):
            optim.forget(self.optimizer, self.method.begin_epoch(at, self.features))
        if self.step % self.recipe.monitor.log_steps == 0:
            clock.restart()

    def _log(self, rates: dict[str, float], clock: Clock, bar: tqdm) -> None:
        """Read the interval's metrics, the only place where the host waits for the device."""
        self._count_skipped()
        metrics, speed = self.meter.read(), clock.read()
        if self.device.type == "cpu" and self.world.leads and (remark := clock.crowded(torch.get_num_threads())):
            bar.clear()
            self.say(remark)
        at = self.at(self.step)
        row: dict[str, Any] = {
            "step": self.step,
            "epoch": round(at.epoch, 4),
            **metrics,
            **rates,
            **self.scale.read(),
            **speed,
        }
        if self._due(self.recipe.monitor.every_epochs, self.recipe.monitor.log_steps):
            with distributed.unhurried(f"step {self.step}"):
                row |= self.evaluate()
            clock.restart()
        if at.reached(self.recipe.monitor.grace) >= 1:
            warnings = verdict(row)
            if warnings and self.world.leads:
                row["warnings"] = warnings
                bar.clear()
                self.say(f"epoch {at.epoch:.1f}: {'; '.join(warnings)}")
        if self.last is None or math.isfinite(row.get("loss", math.nan)):
            self.last = log.plain({key: value for key, value in row.items() if key not in speed})
        if self.world.leads:
            log.append(self.metrics_path, row)
            self.tell(row)
            clock.restart()  # what is sent and drawn there is not the next interval's time
        bar.set_postfix_str(
            f"epoch {at.epoch:.1f}/{at.epochs:g}, loss {row.get('loss', math.nan):.3f}, "
            f"{row['images_per_second']:.0f} images/s, {row['data_wait']:.0%} waiting for data",
            refresh=False,
        )

    def _due(self, every_epochs: float, steps: int) -> bool:
        """Whether the last ``steps`` passed a multiple of ``every_epochs``, or the run ends; never for 0 epochs."""
        every = every_epochs * self.steps_per_epoch
        if not every:
            return False
        before = self.step - min(steps, self.step)
        return self.step == self.total or int(self.step / every) > int(before / every)

    def _keep_encoder(self) -> None:
        every = self.recipe.train.keep_epochs
        if self.world.leads and every and (self.step == 0 or self._due(every, 1)):
            self.keep(self.at(self.step).epoch)

    def _count_skipped(self) -> None:
        flags = torch.stack([flags for _, _, flags in self._recent]).tolist() if self._recent else []
        for (step, samples, _), (bad, overflow) in zip(self._recent, flags, strict=True):
            if overflow:  # nobody's fault, so it neither counts as a failure nor ends a series of them
                self.scale.overflows += 1
            else:
                self.skipped_in_a_row = self.skipped_in_a_row + 1 if bad else 0
                self.skipped += bad
            if bad and self.world.leads:
                why = "loss scale too high" if overflow else "not finite"
                log.append(self.metrics_path, {"step": step, "skipped": why, "samples": torch.cat(samples).tolist()})
            if self.skipped_in_a_row >= self.recipe.train.max_nonfinite:
                raise SslkitError(
                    f"{self.skipped_in_a_row} steps in a row gave a loss that is not finite, up to step {step} (its "
                    f"samples are in {self.metrics_path.name}): lower --lr, lengthen the warm-up, or use --precision "
                    "fp32"
                )
        self._recent = []

    def _keep_or_leave(self, signals: Signals, clock: Clock) -> None:
        """Checkpoint when it is time; on a signal checkpoint and leave."""
        received = signals.received[-1] if signals.received else 0
        if self.world.size > 1:
            if self.step % self.recipe.monitor.log_steps:
                return  # processes agree at log steps, when they wait for each other anyway
            received = distributed.largest(received)
        if received:
            self.save()
            distributed.barrier()  # whoever ends first may take the others with it: not before the checkpoint is there
            raise InterruptedRun(
                f"stopped at step {self.step} of {self.total}; rerun the same command to resume", received
            )
        if clock.checkpoint_due(60 * self.recipe.train.checkpoint_minutes):
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        if not self.world.leads:
            return
        self._count_skipped()
        state = {
            "run": checkpoint.identity(self.recipe, self.data),
            "step": self.step,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state(),
            "skipped_in_a_row": self.skipped_in_a_row,
            "skipped": self.skipped,
            "last": self.last,
            **self.scale.state(),
        }
        checkpoint.save(self.checkpoint_path, state)

    def _resume(self) -> None:
        path = self.checkpoint_path
        state = checkpoint.load(path, self.device)
        if state is not None:
            if state.get("run", own := checkpoint.identity(self.recipe, self.data)) != own:  # none in earlier versions
                raise DamagedFile(path, "it is the checkpoint of a run with other settings or other data")
            if not 0 <= state["step"] <= self.total:
                raise DamagedFile(path, f"it is of step {state['step']}, but the run has {self.total} steps")
            checkpoint.check_meter(path, state["meter"])
            if self.scale.used:
                checkpoint.check_scale(path, state.get("loss_scale"))
                self.scale.restore(state["loss_scale"])
            checkpoint.restore(path, state, self.method, self.optimizer)
            self.meter.restore(state["meter"])
            self.step, self.skipped_in_a_row = state["step"], state["skipped_in_a_row"]
            self.skipped, self.last = state.get("skipped", 0), state.get("last")
        if self.world.leads:
            if state is None and (self.begun or self.metrics_path.exists()):
                self.say("there is no checkpoint of the earlier attempt: starting from the beginning")
            if state is not None:
                self.say(f"resuming at step {self.step} of {self.total}")
            if lost := log.rewind(self.metrics_path, self.step):
                self.say(lost)

    def _bar(self) -> tqdm:
        hidden = self.quiet or not self.world.leads
        # A log file, unlike a terminal, keeps every state of the bar.
        pause = 0.1 if sys.stderr.isatty() else 30.0
        shape = {"initial": self.step, "unit": "step", "dynamic_ncols": True, "mininterval": pause}
        return tqdm(total=self.total, disable=hidden, **shape)
