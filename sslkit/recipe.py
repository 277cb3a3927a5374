"""Recipes: small YAML files that merge, with every key typed and every default in one place.

Sections that a plug-in file owns (``mask``, each objective) are validated by that file's own class, so a new
mask or objective brings its keys with it. An unknown key is an error that names the nearest known one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from sslkit import registry
from sslkit.errors import UsageError, did_you_mean
from sslkit.merging import merge, override, read
from sslkit.schedules import Duration, in_epochs

Probability = float | list[float]
Range = tuple[float, float]


class Strict(BaseModel):
    """A section of a recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


M = TypeVar("M", bound=BaseModel)


class EncoderSection(Strict):
    """The student's encoder; None leaves the timm architecture's own value."""

    arch: str = "vit_small_patch16_224"
    image_size: int = Field(default=224, gt=0)  # pixels
    patch_size: int | None = Field(default=None, gt=0)  # pixels
    width: int | None = Field(default=None, gt=0)
    depth: int | None = Field(default=None, gt=0)
    heads: int | None = Field(default=None, gt=0)
    drop_path: float = Field(default=0.1, ge=0, lt=1)  # of the last block, linear over depth; the student's only


class CropSection(Strict):
    """Random resized crops of one size."""

    count: int = Field(default=2, ge=0)
    size: int | None = Field(default=None, gt=0)  # pixels; None: image_size for global crops, 3/7 of it for local ones
    scale: Range = (0.25, 1.0)  # share of the image's area
    ratio: Range = (3 / 4, 4 / 3)  # width / height


class AugmentSection(Strict):
    """Probabilities. A list is for the first global crop, the second, ..., and last the local crops."""

    flip: Probability = 0.5
    jitter: Probability = 0.8
    jitter_strength: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
    gray: Probability = 0.2
    blur: Probability = [1.0, 0.1, 0.5]
    blur_sigma: Range = (0.1, 2.0)  # pixels
    solarize: Probability = [0.0, 0.2, 0.0]
    rotate: Probability = 0.0  # by 90, 180 or 270 degrees
    noise: Probability = 0.0
    noise_sigma: Range = (0.02, 0.1)  # of pixels in [0, 1]
    sobel: Probability = 0.0  # gradients in the place of colours
    cutout: Probability = 0.0
    cutout_area: Range = (0.05, 0.25)  # share of the crop's area


class ViewsSection(Strict):
    """The views that are made of each image."""

    global_: CropSection = Field(default=CropSection(), alias="global")
    local: CropSection = CropSection(count=0, scale=(0.05, 0.25))  # none unless a recipe asks for them
    augment: AugmentSection = AugmentSection()


class TeacherSection(Strict):
    """The exponential moving average of the student: momentum at the start and at the end, along a cosine."""

    momentum: Range = (0.996, 1.0)


class HeadSection(Strict):
    """A head of the branch; see ``sslkit.heads``. Its ``kind`` says which."""

    @property
    def embedding(self) -> int:
        """E, the width of the embedding."""
        raise NotImplementedError


class PrototypesSection(HeadSection):
    """DINO's head, which ends in prototypes."""

    kind: Literal["dino"] = "dino"
    out: int = Field(default=8192, gt=0)  # prototypes K
    hidden: int = Field(default=2048, gt=0)
    bottleneck: int = Field(default=256, gt=0)
    layers: int = Field(default=3, gt=0)
    norm: Literal["fixed", "free"] = "fixed"  # of each prototype's weight vector
    frozen: Duration = 1.0  # epochs in which the last layer does not move
    trunk: str | None = None  # the head whose MLP this one shares

    @property
    def embedding(self) -> int:
        """The bottleneck."""
        return self.bottleneck


class ProjectorSection(HeadSection):
    """An MLP, mostly with BatchNorm, which ends in an embedding."""

    kind: Literal["projector"] = "projector"
    out: int = Field(default=2048, gt=0)  # E
    hidden: int = Field(default=2048, gt=0)
    layers: int = Field(default=3, gt=0)
    batch_norm: bool = True

    @property
    def embedding(self) -> int:
        """Its output."""
        return self.out


HEADS: dict[str, type[HeadSection]] = {"dino": PrototypesSection, "projector": ProjectorSection}


class OptimSection(Strict):
    """AdamW."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=5.0e-4, gt=0)  # per 256 images of the global batch
    final_lr: float = Field(default=1.0e-6, ge=0)
    weight_decay: Range = (0.04, 0.4)  # start and end of a cosine
    betas: Range = (0.9, 0.999)
    clip: float | None = Field(default=3.0, gt=0)  # gradient norm of EACH parameter
    warmup_epochs: Duration = 10.0


class TrainSection(Strict):
    """The loop."""

    epochs: float = Field(default=100, gt=0)
    batch_size: int = Field(default=256, gt=0)  # images per optimizer step, over all processes and accumulation
    accumulate: int = Field(default=1, gt=0)  # micro-batches per step and process
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    seed: int = Field(default=0, ge=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    max_nonfinite: int = Field(default=5, gt=0)  # skipped steps in a row before the run stops


class MonitorSection(Strict):
    """What is looked at while it trains."""

    every_epochs: float = Field(default=5, ge=0)  # k-NN on a part of train that is not in its bank; 0 = never
    queries: int = Field(default=500, gt=0)
    bank: int = Field(default=4500, gt=0)
    log_steps: int = Field(default=10, gt=0)
    grace: Duration = "25%"  # no verdict of collapse before this
    gradient_steps: int = Field(default=500, ge=0)  # between looks at each objective's gradient; 0 = never


class MethodSection(Strict):
    """The method; a method's file adds keys of its own. ``method: dino`` is short for ``method: {name: dino}``."""

    name: str = "joint_embedding"


class Recipe(Strict):
    """A complete, checked recipe."""

    method: SerializeAsAny[MethodSection] = MethodSection()
    encoder: EncoderSection = EncoderSection()
    views: ViewsSection = ViewsSection()
    mask: SerializeAsAny[BaseModel] | None = None
    teacher: TeacherSection | None = None
    heads: dict[str, SerializeAsAny[HeadSection]] = {}
    objectives: dict[str, SerializeAsAny[BaseModel]] = {}
    optim: OptimSection = OptimSection()
    train: TrainSection = TrainSection()
    monitor: MonitorSection = MonitorSection()

    @model_validator(mode="before")
    @classmethod
    def _without_null_sections(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value

    @field_validator("method", mode="before")
    @classmethod
    def _method(cls, value: Any) -> Any:
        section = _named(value)
        if not isinstance(section, Mapping):
            return value
        from sslkit.methods.base import Method

        kind = registry.load("sslkit.methods", str(section.get("name", "joint_embedding")), Method)
        return validated(kind.Config, section, "method")

    @field_validator("heads", mode="before")
    @classmethod
    def _heads(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: _head(name, section) for name, section in value.items() if section is not None}

    @field_validator("mask", mode="before")
    @classmethod
    def _mask(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        from sslkit.masks.base import Masking

        if "strategy" not in value:
            raise UsageError(f"mask needs a strategy: {', '.join(registry.names('sslkit.masks'))}")
        return validated(registry.load("sslkit.masks", str(value["strategy"]), Masking), value, "mask")

    @field_validator("objectives", mode="before")
    @classmethod
    def _objectives(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        from sslkit.objectives.base import Objective

        return {
            name: validated(registry.load("sslkit.objectives", name, Objective).Config, section, f"objectives.{name}")
            for name, section in value.items()
            if section is not None
        }

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        for name, length in self._durations().items():
            if in_epochs(length, self.train.epochs) > self.train.epochs:
                raise UsageError(
                    f"{name} of {length} epochs exceeds the run of {self.train.epochs:g}: "
                    f"shorten it, or write a share such as '10%'"
                )
        for name, objective in self.objectives.items():
            head = getattr(objective, "head", None)
            if head is not None and head not in self.heads:
                raise UsageError(f"objectives.{name}.head is '{head}': {did_you_mean(head, self.heads)}")
        if self.train.batch_size % self.train.accumulate:
            raise UsageError(f"batch_size {self.train.batch_size} is no multiple of accumulate {self.train.accumulate}")
        return self

    def _durations(self) -> dict[str, Duration]:
        found: dict[str, Duration] = {"optim.warmup_epochs": self.optim.warmup_epochs}
        found |= {
            f"heads.{name}.frozen": head.frozen
            for name, head in self.heads.items()
            if isinstance(head, PrototypesSection)
        }
        for name, objective in self.objectives.items():
            for key in type(objective).model_fields:
                if key.endswith("warmup_epochs"):
                    found[f"objectives.{name}.{key}"] = getattr(objective, key)
        return found


def _named(method: Any) -> Any:
    """A method's section, where only its name may have been written."""
    return {"name": method} if isinstance(method, str) else method


def _head(name: str, section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    kind = str(section.get("kind", "dino"))
    if kind not in HEADS:
        raise UsageError(f"heads.{name}.kind is '{kind}': {did_you_mean(kind, HEADS)}")
    return validated(HEADS[kind], section, f"heads.{name}")


def validated(model: type[M], data: Any, where: str = "") -> M:
    """``data`` as ``model``.

    Raises:
        UsageError: one line for the first thing that is wrong; an unknown key gets the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([*([where] if where else []), *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            known = _keys_at(model, first["loc"][:-1])
            raise UsageError(
                f"unknown key '{path}' in the recipe: {did_you_mean(str(first['loc'][-1]), known)}"
            ) from None
        raise UsageError(
            f"{path} in the recipe: {first['msg'].lower().replace('tuple', 'list')}, not {first['input']!r}"
        ) from None


def _keys_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The keys of the section that a validation error's location points to."""
    current: Any = model
    for part in location:
        fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
        annotation = fields.get(str(part), current)
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        current = arguments[0] if arguments else annotation
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
    return [field.alias or name for name, field in current.model_fields.items()]


def resolve(paths: Sequence[Path], overrides: Sequence[str] = ()) -> Recipe:
    """Recipes merged left to right, then overrides, then checked.

    Raises:
        UsageError: an unreadable file, an unknown key, a wrong value or a contradiction.
    """
    settings: dict[str, Any] = {}
    for layer in [*map(read, paths), *(override({}, assignment) for assignment in overrides)]:
        if "method" in layer:
            layer = {**layer, "method": _named(layer["method"])}
        settings = merge(_without_other_method(_without_other_strategy(settings, layer), layer), layer)
    return validated(Recipe, settings)


def _without_other_strategy(settings: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` without the keys that only its own mask strategy knows, where ``layer`` chooses another.

    What all strategies share, such as the ratio, stays: only the choice of tokens changes.
    """
    old, new = settings.get("mask"), layer.get("mask")
    if (
        not isinstance(old, Mapping)
        or not isinstance(new, Mapping)
        or new.get("strategy") in (None, old.get("strategy"))
    ):
        return settings
    from sslkit.masks.base import Masking

    return {**settings, "mask": {key: value for key, value in old.items() if key in Masking.model_fields}}


def _without_other_method(settings: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` without the keys of its method, where ``layer`` chooses another."""
    old, new = settings.get("method"), layer.get("method")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping) or new.get("name") in (None, old.get("name")):
        return settings
    return {key: value for key, value in settings.items() if key != "method"}


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values, defaults included."""
    return recipe.model_dump(mode="json", by_alias=True)


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, defaults included; ``resolve`` reads it back."""
    return yaml.safe_dump(as_dict(recipe), sort_keys=False)
