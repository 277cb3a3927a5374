"""How an encoder is fine-tuned: one table of settings, with the help, bounds and defaults that the command line shows.

Free of torch, so that ``--help`` stays fast.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sslkit.errors import UsageError
from sslkit.schedules import Duration

SMALL = 96  # pixels; below, the defaults are those of small data: runs are short and overfit late
FEWEST_STEPS = 500  # of a run without --epochs: few labels need many passes
EPOCHS = {True: 20, False: 100}  # by whether images are small
RANDOM_DECAY = 1.0  # layer decay: early layers of a randomly initialised encoder hold nothing worth protecting
Pool = Literal["cls", "mean"]


def _option(help: str, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    """What makes a setting an option: its help, and the smallest and the largest value allowed.

    A field's own default is that for images of ``SMALL`` pixels or more. ``more`` holds ``small``, the default below
    that; ``positive``, where ``low`` itself is not allowed; ``metavar``, for the command line.
    """
    return {"help": help, "low": low, "high": high, **more}


def _sized(small: float, large: float) -> str:
    return f"Default: {small:g} ({large:g} from {SMALL} px on)."


@dataclass(frozen=True)
class FinetuneSettings:
    """How an encoder is fine-tuned; ``finetune_settings`` fills in what suits the data.

    Attributes:
        lr: peak per 256 images, of the last layer.
        epochs: None: the default of ``EPOCHS``, or as many as make ``FEWEST_STEPS``.
        batch_size: images per step; all of them where there are fewer.
        layer_decay: see ``layer_decay``; 1 = one rate for all layers.
        mixup: Beta(mixup, mixup) of the shares; 0 = off.
        cutmix: Beta(cutmix, cutmix) of the boxes; 0 = off. If mixup is on too, a coin chooses one for each step.
        smoothing: share of a target that is spread over all classes.
        pool: input of the head, see ``prediction.EncoderClassifier``; None is CLS where there is one.
    """

    lr: tuple[float, ...] = field(
        default=(1e-3,),
        metadata=_option(
            f"Per 256 images; of several, the best on held-out train. {_sized(4e-3, 1e-3)}",
            0,
            positive=True,
            small=(4e-3,),
        ),
    )
    epochs: float | None = field(
        default=None,
        metadata=_option(
            f"Passes over train. {_sized(EPOCHS[True], EPOCHS[False])[:-1]}, and at least {FEWEST_STEPS} steps.",
            0,
            positive=True,
        ),
    )
    batch_size: int = field(default=256, metadata=_option(f"Images per step. {_sized(64, 256)}", 1, small=64))
    weight_decay: float = field(default=0.05, metadata=_option("Default: 0.05; none on biases and 1-D parameters.", 0))
    layer_decay: float = field(
        default=0.65,
        metadata=_option(
            f"Factor of the learning rate from one block to the one below. Default: 0.65; random: {RANDOM_DECAY:g}.",
            0,
            1,
            positive=True,
        ),
    )
    drop_path: float = field(default=0.1, metadata=_option("Of the last block, linear over depth. Default: 0.1.", 0, 1))
    mixup: float = field(default=0.8, metadata=_option(_sized(0, 0.8), 0, small=0.0))
    cutmix: float = field(default=1.0, metadata=_option(_sized(0, 1), 0, small=0.0))
    smoothing: float = field(
        default=0.1, metadata=_option("Of the labels. Default: 0.1; with --self-train 0, and no mixing.", 0, 1)
    )
    ema: float = field(
        default=0.999,
        metadata=_option("Momentum of the averaged weights that are evaluated, 0 = off. Default: 0.999.", 0, 1),
    )
    clip: float = field(default=3.0, metadata=_option("Gradient norm of each parameter, 0 = off. Default: 3.", 0))
    warmup: Duration = field(default="10%", metadata=_option("Epochs, or a share of the run. Default: 10%."))
    crop: float = field(
        default=0.08,
        metadata=_option(
            f"Smallest share of the area in a random crop. {_sized(0.3, 0.08)}", 0, 1, positive=True, small=0.3
        ),
    )
    jitter: float = field(default=0.0, metadata=_option("Probability of colour jitter. Default: 0.", 0, 1))
    pool: Pool | None = field(
        default=None, metadata=_option("Input of the classifier. Default: cls where there is one.")
    )
    unfreeze: int | None = field(
        default=None,
        metadata=_option("Train only the last N blocks; 0: only the head. Default: everything.", 0, metavar="N"),
    )
    seed: int = 0


def finetune_settings(image_size: int, fresh: bool, self_train: bool, **given: Any) -> FinetuneSettings:
    """The given settings, with defaults that suit the data for those that are missing or None.

    The early layers of a ``fresh``, randomly initialised encoder need no slower rate. With ``self_train`` labels are
    neither smoothed nor mixed: a model trained on such labels is never confident.

    Raises:
        UsageError: a value out of its range.
    """
    small = image_size < SMALL
    found = {f.name: f.metadata["small"] for f in fields(FinetuneSettings) if small and "small" in f.metadata}
    found |= {"layer_decay": RANDOM_DECAY} if fresh else {}
    found |= {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0} if self_train else {}
    found |= {name: value for name, value in given.items() if value is not None}
    settings = FinetuneSettings(**found)
    for one in fields(settings):
        given_value, low, high = getattr(settings, one.name), one.metadata.get("low"), one.metadata.get("high")
        positive = one.metadata.get("positive")
        for value in given_value if isinstance(given_value, tuple) else (given_value,):
            if value is None or low is None:
                continue
            above = value > low if positive else value >= low  # false for NaN
            if not above or (high is not None and value > high):
                bound = f"above {low:g}" if positive else f"{low:g} or more"
                upper = "" if high is None else f" and at most {high:g}"
                raise UsageError(f"--{one.name.replace('_', '-')} {value:g}: must be {bound}{upper}")
    return settings
