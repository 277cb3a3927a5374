"""Full fine-tuning: the encoder learns on, with a linear classifier, by the protocol of BEiT, MAE and DeiT.

AdamW with layer-wise decay of the learning rate, warm-up and cosine, drop path, random resized crops and flips,
mixtures and smoothed labels (arXiv:2106.08254, 2111.06377 table 9, 2012.12877). It is supervised training that starts
from weights that are there, so it is that method, run by the one training loop; what is judged is a moving average of
the weights (arXiv:1703.01780).
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslkit import ema
from sslkit.data.batch import Batch
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError, UsageError
from sslkit.methods.base import DataFacts, drop_scales
from sslkit.methods.supervised import Supervised
from sslkit.probes.finetuning.layer_decay import factors, freeze_below
from sslkit.probes.finetuning.prediction import Classifier, FloatLinear, Pool
from sslkit.recipe.schema import Recipe
from sslkit.recipe.validation import validated
from sslkit.schedules import Duration, Moment

SMALL = 96  # pixels; below, the defaults are those of small data
FEWEST_STEPS = 500  # of a run whose epochs nobody named: few labels need many passes
HEAD_STD = 2e-5  # of the classifier's first weights, MAE's: the head does not push at the encoder before it has learnt
# What depends on the size of the images, unless it is given. On 32 pixels a run is short and nothing overfits soon.
DEFAULTS: dict[bool, dict[str, Any]] = {
    True: {"lr": (4e-3,), "epochs": 20, "batch_size": 64, "mixup": 0.0, "cutmix": 0.0, "crop": 0.3},
    False: {"lr": (1e-3,), "epochs": 100, "batch_size": 256, "mixup": 0.8, "cutmix": 1.0, "crop": 0.08},
}


@dataclass(frozen=True)
class Settings:
    """How an encoder is fine-tuned.

    Attributes:
        lr: peak per 256 images, of the last layer.
        epochs: None: the default, or as many as make ``FEWEST_STEPS``.
        batch_size: images per step; all of them where there are fewer.
        weight_decay: none on biases and 1-D parameters.
        layer_decay: see ``layer_decay``; 1 = one rate for all layers.
        drop_path: of the last block, linear over depth.
        mixup: Beta(mixup, mixup) of the shares; 0 = off.
        cutmix: the same of the boxes; with both on a coin chooses for each step.
        smoothing: share of a target that is spread over all classes.
        ema: momentum of the average that is judged; 0 judges the weights themselves.
        clip: gradient norm of each parameter; 0 clips nothing.
        warmup: epochs, or a share of the run.
        crop: the least share of the area that a random crop keeps.
        jitter: probability of colour jitter.
        pool: what the head sees, see ``prediction.Classifier``; None takes CLS where there is one.
        unfreeze: blocks that are trained; None is all of the encoder, 0 only the head.
        seed: of everything random.
    """

    lr: tuple[float, ...] = (1e-3,)
    epochs: float | None = None
    batch_size: int = 256
    weight_decay: float = 0.05
    layer_decay: float = 0.65
    drop_path: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    ema: float = 0.999
    clip: float = 3.0
    warmup: Duration = "10%"
    crop: float = 0.08
    jitter: float = 0.0
    pool: Pool | None = None
    unfreeze: int | None = None
    seed: int = 0


def settings(image_size: int, fresh: bool, self_train: bool, **given: Any) -> Settings:
    """The settings that are given, with defaults for the rest.

    Args:
        image_size: pixels; decides what suits the data.
        fresh: the encoder is not trained: there is nothing in its early layers to be kept by a slow rate.
        self_train: its predictions become labels: of a model that learns from smoothed and mixed labels none would be
            confident.
        given: by name; None is not given.

    Raises:
        UsageError: a value out of its range.
    """
    found: dict[str, Any] = {k: v for k, v in DEFAULTS[image_size < SMALL].items() if k != "epochs"}
    found |= {"layer_decay": 1.0} if fresh else {}
    found |= {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0} if self_train else {}
    found |= {name: value for name, value in given.items() if value is not None}
    for name in ("layer_decay", "ema", "crop"):
        low = 0 if name == "ema" else 1e-9
        if not low <= found.get(name, 1e-9) <= 1:
            raise UsageError(f"--{name.replace('_', '-')} {found[name]:g}: it is above 0 and at most 1")
    for name, values in {"lr": found["lr"], "epochs": [found.get("epochs", 1)]}.items():
        if any(not value > 0 for value in values):
            raise UsageError(f"--{name} {min(values):g}: it is above 0")
    return Settings(**found)


def recipe_for(about: Settings, spec: EncoderSpec, lr: float, samples: int, precision: str, every: float) -> Recipe:
    """The settings as a recipe of supervised training, which the training loop reads.

    Args:
        about: the settings.
        spec: of the encoder.
        lr: one of the settings'.
        samples: training images.
        precision: of the matrix products.
        every: epochs between looks at held-out images; 0 = never.
    """
    batch = min(about.batch_size, samples)
    steps = max(samples // max(batch, 1), 1)
    usual = DEFAULTS[spec.image_size < SMALL]["epochs"]
    epochs = about.epochs or max(usual, math.ceil(FEWEST_STEPS / steps))
    mixing = {"smoothing": about.smoothing, "mixup": about.mixup, "cutmix": about.cutmix}
    augment = {"flip": 0.5, "jitter": about.jitter, "gray": 0.0, "blur": 0.0, "solarize": 0.0}
    return validated(
        Recipe,
        {
            "method": {"name": "supervised", **mixing},
            "encoder": {**asdict(spec), "drop_path": about.drop_path},
            "views": {"global": {"count": 1, "scale": [about.crop, 1.0]}, "augment": augment},
            "optim": {
                "lr": lr,
                "weight_decay": [about.weight_decay] * 2,
                "clip": about.clip or None,
                "warmup_epochs": about.warmup,
            },
            "train": {"epochs": epochs, "batch_size": batch, "precision": precision, "seed": about.seed},
            "monitor": {"every_epochs": min(every, epochs), "log_steps": min(10, steps)},
        },
    )


class FineTune(Supervised):
    """Supervised training of an encoder that is there already.

    Args:
        recipe: of ``recipe_for``.
        facts: of the training images.
        start: the encoder; it is copied.
        about: what the recipe has no key for.
    """

    def __init__(self, recipe: Recipe, facts: DataFacts, start: Encoder, about: Settings):
        super().__init__(recipe, facts)
        self.about = about
        self.encoder.load_state_dict(start.state_dict())
        head = nn.utils.skip_init(FloatLinear, self.encoder.width, self.classes)
        assert isinstance(head, FloatLinear)
        self.classifier = head
        nn.init.trunc_normal_(self.classifier.weight, std=HEAD_STD)
        nn.init.zeros_(self.classifier.bias)
        if about.pool == "cls" and self.encoder.vit and not self.encoder.has_cls:
            raise UsageError(f"--pool cls: {recipe.encoder.arch} has no CLS token; try --pool mean")
        if about.unfreeze is not None:
            freeze_below(self.encoder, about.unfreeze)
        self.live = Classifier(self.encoder, self.classifier, about.pool or "cls")
        self.averaged = deepcopy(self.live).requires_grad_(False) if about.ema else None

    def encode(self, images: Tensor, batch: Batch, at: Moment) -> Tensor:
        """(V, B, 3, S, S) -> what the head sees, (V, B, D)."""
        drop = drop_scales(self.encoder, batch, len(images), at, self.recipe.train.seed)
        return self.live.pooled(self.encoder(images.flatten(0, 1), drop=drop)).unflatten(0, images.shape[:2])

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """Layer-wise decay."""
        return factors(self.encoder, self.about.layer_decay)

    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the average."""
        if self.averaged is not None:
            ema.update(self.averaged, self.live, momentum(self.about.ema, at.step))

    def judged(self) -> Classifier:
        """The average where there is one."""
        return self.live if self.averaged is None else self.averaged

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The encoder that is judged."""
        return self.judged().encoder, "student"


def momentum(limit: float, step: int) -> float:
    """min(limit, (1 + t) / (10 + t)) at step t = 0, 1, ...: a young average forgets fast, so short runs have one too.

    It looks back on about a ninth of the run so far, until the limit is reached.
    """
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def expect_imagenet_statistics(encoder: Encoder, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Let an encoder that was trained with other statistics of its pixels take images normalised by ImageNet's.

    x' = a x + b per channel goes into the patch embedding, W x' + c = (a W) x + (c + sum b W), to the same outputs.

    Args:
        encoder: changed in place.
        mean: of the pixels it was trained on, in [0, 1], per channel.
        std: the same.

    Raises:
        SslkitError: no patch embedding of a ViT to put it into.
    """
    if (tuple(mean), tuple(std)) == (IMAGENET_MEAN, IMAGENET_STD):
        return
    projection = encoder.model.patch_embed.proj if encoder.vit else None
    if projection is None or projection.bias is None:
        raise SslkitError(
            f"{encoder.spec.arch} was trained with mean {list(mean)} and std {list(std)} of its pixels; fine-tuning "
            "takes those of ImageNet: name another model"
        )
    here, there = (torch.tensor(values) for values in ((IMAGENET_MEAN, IMAGENET_STD), (mean, std)))
    scale, shift = here[1] / there[1], (here[0] - there[0]) / there[1]
    projection.bias += (projection.weight * shift[:, None, None]).sum((1, 2, 3))
    projection.weight *= scale[:, None, None]
