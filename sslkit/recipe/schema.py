"""Recipes: small YAML files that merge, with every key typed and every default in one place.

Sections that a plug-in file owns (``mask``, each objective) are validated by that file's own class, so a new
mask or objective brings its keys with it. An unknown key is an error that names the nearest known one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from sslkit import registry
from sslkit.errors import UsageError, did_you_mean
from sslkit.recipe.merging import merge, override, read
from sslkit.recipe.sections import (
    HEADS,
    EncoderSection,
    HeadSection,
    MethodSection,
    MonitorSection,
    OptimSection,
    PrototypesSection,
    Strict,
    TeacherSection,
    TrainSection,
    ViewsSection,
)
from sslkit.schedules import Duration, in_epochs

M = TypeVar("M", bound=BaseModel)


class Recipe(Strict):
    """A complete, checked recipe."""

    method: SerializeAsAny[MethodSection] = MethodSection()
    encoder: EncoderSection = EncoderSection()
    views: ViewsSection = ViewsSection()
    mask: SerializeAsAny[BaseModel] | None = None
    teacher: TeacherSection | None = None
    heads: dict[str, SerializeAsAny[HeadSection]] = Field(default_factory=dict)
    objectives: dict[str, SerializeAsAny[BaseModel]] = Field(default_factory=dict)
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

        kind = registry.load("sslkit.methods", str(section.get("name", "joint_embedding")))
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

        if "strategy" not in value:
            raise UsageError(f"mask needs a strategy: {', '.join(registry.names('sslkit.masks'))}")
        return validated(registry.load("sslkit.masks", str(value["strategy"])), value, "mask")

    @field_validator("objectives", mode="before")
    @classmethod
    def _objectives(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value

        return {
            name: validated(registry.load("sslkit.objectives", name).Config, section, f"objectives.{name}")
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
        for name, head in self.heads.items():
            trunk = head.trunk if isinstance(head, PrototypesSection) else None
            lender = self.heads.get(trunk) if trunk else None
            if trunk and (not isinstance(lender, PrototypesSection) or lender.trunk):
                raise UsageError(f"heads.{name}.trunk is '{trunk}': name a dino head that has no trunk itself")
        if self.train.batch_size % self.train.accumulate:
            raise UsageError(f"batch_size {self.train.batch_size} is no multiple of accumulate {self.train.accumulate}")
        return self

    def _durations(self) -> dict[str, Duration]:
        found: dict[str, Duration] = {
            "optim.warmup_epochs": self.optim.warmup_epochs,
            "monitor.grace": self.monitor.grace,
        }
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
            last = str(first["loc"][-1])
            hint = did_you_mean(last, known, path.removesuffix(last))
            raise UsageError(f"unknown key '{path}' in the recipe: {hint}") from None
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
