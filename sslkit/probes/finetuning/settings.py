"""How an encoder is fine-tuned: one table of settings, with the help, bounds and defaults that the command line shows.

Free of torch, so that ``--help`` stays fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sslkit.errors import UsageError
from sslkit.schedules import Duration

SMALL = 96  # pixels; below, the defaults are those of small data: runs are short and nothing overfits soon
FEWEST_STEPS = 500  # of a run without --epochs: few labels need many passes
EPOCHS = {True: 20, False: 100}  # by whether images are small
RANDOM_DECAY = 1.0  # layer decay: early layers of a randomly initialised encoder hold nothing worth protecting
Pool = Literal["cls", "mean"]


def _option(help: str, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    """What makes a setting an option.

    Args:
        help: for the command line; a field's own default is that for images of ``SMALL`` pixels or more.
        low: the smallest value allowed.
        high: the largest value allowed.
        more: ``small``, the default below ``SMALL`` pixels; ``positive``, where ``low`` itself is not allowed;
            ``metavar``, for the command line.
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
        weight_decay: none on biases and 1-D parameters.
        layer_decay: see ``layer_decay``; 1 = one rate for all layers.
        drop_path: of the last block, linear over depth.
        mixup: Beta(mixup, mixup) of the shares; 0 = off.
        cutmix: Beta(cutmix, cutmix) of the boxes; 0 = off. If mixup is on too, a coin chooses one for each step.
        smoothing: share of a target that is spread over all classes.
        ema: momentum of the average of the weights that is evaluated; 0 evaluates the weights themselves.
        clip: gradient norm of each parameter; 0 = off.
        warmup: epochs, or a share of the run.
        crop: the smallest share of the image's area in a random crop.
        jitter: probability of colour jitter.
        pool: input of the head, see ``prediction.EncoderClassifier``; None is CLS where there is one.
        unfreeze: blocks to train; None trains the whole encoder, 0 only the head.
        seed: of everything random.
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
    """The given settings, with defaults that suit the data for the rest.

    Args:
        image_size: pixels.
        fresh: the encoder is randomly initialised, so its early layers need no slower rate.
        self_train: its predictions become labels; a model trained on smoothed or mixed labels is never confident.
        given: by name; None counts as not given.

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
        value = getattr(settings, one.name)
        for number in value if isinstance(value, tuple) else (value,):
            _check_range(one.name, number, one.metadata)
    return settings


def _check_range(name: str, value: Any, about: Mapping[str, Any]) -> None:
    low, high = about.get("low"), about.get("high")
    if value is None or low is None:
        return
    above = value > low if about.get("positive") else value >= low
    if above and (high is None or value <= high):
        return
    bound = f"above {low:g}" if about.get("positive") else f"{low:g} or more"
    upper = "" if high is None else f" and at most {high:g}"
    raise UsageError(f"--{name.replace('_', '-')} {value:g}: must be {bound}{upper}")
