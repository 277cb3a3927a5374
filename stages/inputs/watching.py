"""What is logged and drawn while a run trains: rows and attention. No weight and no random number changes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sslkit.errors import InterruptedRun, SslkitError, UsageError
from sslkit.loggers.base import LoggedPicture
from stages.contract.experiment import forget_loggers, loggers_of
from stages.contract.layout import ATTENTION, Run
from stages.contract.output import say

if TYPE_CHECKING:
    from sslkit.data.loader import Images
    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.training.loop import Trainer

IMAGES = 4  # of train, evenly spaced, whose attention is drawn


@dataclass(frozen=True)
class Watch:
    """What the command line asks for."""

    log: tuple[str, ...] = ()  # names of loggers
    attention_every: float = 0.0  # epochs; 0: never

    def check(self, encoder: "Encoder") -> None:
        """Refuse to draw the attention of an encoder that has none, before it is trained.

        Raises:
            UsageError: it is not a ViT with a CLS token.
        """
        if self.attention_every and (why := encoder.why_no_attention()):
            raise UsageError(f"{why}, so there is no attention to draw: leave out --attention-every")


class AttentionPictures:
    """Draws the attention to a few images of train each time that a number of epochs has passed."""

    def __init__(self, run: Run, images: "Images", frozen: "FrozenEncoder"):
        import numpy as np

        from sslkit.data.evaluation_crop import evaluation_crop

        self.folder, self.frozen = run.pretrain / ATTENTION, frozen
        chosen = np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))
        self.crops = [(f"train {i}", evaluation_crop(images.image(int(i)), frozen.size)) for i in chosen]

    def draw(self, step: int, epoch: float) -> LoggedPicture | None:
        """Write the sheet of a step; None, and a remark, where that fails: training is worth more."""
        import torch

        from sslkit.plots.attention.grid import draw_grid
        from sslkit.probes.inspect.attention_maps import AttentionReader

        picture = LoggedPicture(ATTENTION, step, self.folder / f"{step:08d}.png")
        encoder, was_training = self.frozen.encoder, self.frozen.encoder.training
        encoder.eval()
        try:
            # Blocks that were compiled for training are not compiled again for a few single images.
            with torch.compiler.set_stance("force_eager"):
                draw_grid(self.crops, AttentionReader(self.frozen), picture.path, f"Attention after epoch {epoch:g}")
        except InterruptedRun:
            raise
        except SslkitError as error:
            say(f"no attention was drawn at step {step}: {error}")
            return None
        finally:
            encoder.train(was_training)
        return picture


@contextmanager
def watched(
    run: Run, watch: Watch, trainer: "Trainer", images: "Images", frozen: "FrozenEncoder"
) -> "Iterator[Callable[[Mapping[str, Any]], None]]":
    """Open the run's loggers, and give the function that takes each new row of the log."""
    if not trainer.begun and trainer.step == 0:
        forget_loggers(run)
    every = watch.attention_every * trainer.steps_per_epoch
    pictures = AttentionPictures(run, images, frozen) if every else None
    if pictures and trainer.step == 0:
        pictures.draw(0, 0)  # before anything is learned
    with loggers_of(run, watch.log, announce=True) as loggers:
        # The last row of an undisturbed run, which may lie before the checkpoint that this one resumes from.
        before = trainer.step - trainer.step % trainer.recipe.monitor.log_steps

        def tell(row: Mapping[str, Any]) -> None:
            nonlocal before
            step, last, before = row["step"], before, row["step"]
            loggers.row(row)
            if pictures and (step == trainer.total or int(step / every) > int(last / every)):
                picture = pictures.draw(step, row["epoch"])
                if picture is not None:
                    loggers.picture(picture)

        yield tell
