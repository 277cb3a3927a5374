"""Full fine-tuning: encoder and linear classifier are trained together, by the protocol of BEiT, MAE and DeiT.

AdamW with layer-wise decay of the learning rate, warm-up and cosine, drop path, random resized crops and flips,
mixup, cutmix and label smoothing (arXiv:2106.08254, 2111.06377 table 9, 2012.12877). It is supervised training that
starts from given weights, so it is that method, run by the one training loop; a moving average of the weights is
evaluated (arXiv:1703.01780).
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Literal

import torch
from torch import Tensor, nn

from sslkit import ema
from sslkit.data.batch import Batch
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.layer_decay import factors, freeze_below
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError, UsageError
from sslkit.methods.base import DataFacts, drop_scales
from sslkit.methods.supervised import Supervised
from sslkit.probes.finetuning.prediction import EncoderClassifier, FloatLinear
from sslkit.probes.finetuning.settings import EPOCHS, FEWEST_STEPS, SMALL, FinetuneSettings
from sslkit.recipe.schema import Recipe
from sslkit.recipe.validation import validated
from sslkit.schedules import Moment

HEAD_STD = 2e-5  # of the classifier's first weights, as in MAE: at first, the head hardly disturbs the encoder


def recipe_for(
    settings: FinetuneSettings, spec: EncoderSpec, lr: float, samples: int, precision: str, every: float
) -> Recipe:
    """The settings, with one of their learning rates, as a recipe of supervised training.

    ``every`` is the number of epochs between evaluations on held-out images; 0 = never.
    """
    batch = min(settings.batch_size, samples)
    steps = max(samples // max(batch, 1), 1)
    epochs = settings.epochs or max(EPOCHS[spec.image_size < SMALL], math.ceil(FEWEST_STEPS / steps))
    mixing = {"smoothing": settings.smoothing, "mixup": settings.mixup, "cutmix": settings.cutmix}
    seen = {"mean": spec.mean, "std": spec.std}
    sizes = {key: value for key, value in asdict(spec).items() if key not in seen}
    augment = {"flip": 0.5, "jitter": settings.jitter, "gray": 0.0, "blur": 0.0, "solarize": 0.0}
    return validated(
        Recipe,
        {
            "method": {"name": "supervised", **mixing},
            "encoder": {**sizes, "drop_path": settings.drop_path},
            "views": {"global": {"count": 1, "scale": [settings.crop, 1.0]}, "augment": augment, **seen},
            "optim": {
                "lr": lr,
                "weight_decay": [settings.weight_decay] * 2,
                "clip": settings.clip or None,
                "warmup_epochs": settings.warmup,
            },
            "train": {"epochs": epochs, "batch_size": batch, "precision": precision, "seed": settings.seed},
            "monitor": {"every_epochs": min(every, epochs), "log_steps": min(10, steps)},
        },
    )


class FineTune(Supervised):
    """Supervised training that starts from a copy of a given encoder; the recipe is that of ``recipe_for``."""

    def __init__(self, recipe: Recipe, facts: DataFacts, start: Encoder, settings: FinetuneSettings):
        super().__init__(recipe, facts)
        self.settings = settings
        self.encoder.load_state_dict(start.state_dict())
        self.classifier = nn.utils.skip_init(FloatLinear, self.encoder.width, self.classes)
        assert isinstance(self.classifier, FloatLinear)
        nn.init.trunc_normal_(self.classifier.weight, std=HEAD_STD)
        nn.init.zeros_(self.classifier.bias)
        if settings.pool == "cls" and self.encoder.vit and not self.encoder.has_cls:
            raise UsageError(f"--pool cls: {recipe.encoder.arch} has no CLS token; try --pool mean")
        if settings.unfreeze is not None:
            freeze_below(self.encoder, settings.unfreeze)
        self.live = EncoderClassifier(self.encoder, self.classifier, settings.pool or "cls")
        self.averaged = deepcopy(self.live).requires_grad_(False) if settings.ema else None
        self.average = self.averaged and ema.MovingAverage(self.averaged, self.live)

    def encode(self, images: Tensor, batch: Batch, at: Moment) -> Tensor:
        """(V, B, 3, S, S) -> input of the head, (V, B, D)."""
        drop = drop_scales(self.encoder, batch, len(images), at, self.recipe.train.seed)
        return self.live.pooled(self.encoder(images.flatten(0, 1), drop=drop)).unflatten(0, images.shape[:2])

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """Factor of each parameter's learning rate: layer-wise decay."""
        return factors(self.encoder, self.settings.layer_decay)

    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the average of the weights."""
        if self.average is not None:
            self.average.update(momentum(self.settings.ema, at.step))

    def evaluated(self) -> EncoderClassifier:
        """The classifier that is evaluated: the average where there is one."""
        return self.live if self.averaged is None else self.averaged

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The encoder that is evaluated."""
        return self.evaluated().encoder, "student"


def momentum(limit: float, step: int) -> float:
    """min(limit, (1 + t) / (10 + t)) at step t = 0, 1, ...: it grows, so that short runs have a useful average too.

    The average covers about the last ninth of the run so far, until the limit is reached.
    """
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def with_usual_statistics(frozen: FrozenEncoder) -> FrozenEncoder:
    """The same encoder, changed in place, for images normalised by its description's mean and std: ImageNet's for RGB.

    x' = a x + b per channel is folded into the patch embedding, W x' + c = (a W) x + (c + sum b W): same outputs.

    Raises:
        SslkitError: the model has no ViT patch embedding to fold it into.
    """
    encoder, mean, std = frozen.encoder, frozen.mean, frozen.std
    usual = encoder.spec.statistics
    if (mean, std) == usual:
        return frozen
    projection = encoder.model.patch_embed.proj if encoder.vit else None
    if projection is None or projection.bias is None:
        raise SslkitError(
            f"{encoder.spec.arch} was trained on pixels with mean {list(mean)} and std {list(std)}, but fine-tuning "
            f"requires {list(usual[0])} and {list(usual[1])}: name another model"
        )
    values = torch.tensor([*usual, mean, std], device=frozen.device)
    scale, shift = values[1] / values[3], (values[0] - values[2]) / values[3]
    projection.bias += (projection.weight * shift[:, None, None]).sum((1, 2, 3))
    projection.weight *= scale[:, None, None]
    return replace(frozen, mean=usual[0], std=usual[1])
