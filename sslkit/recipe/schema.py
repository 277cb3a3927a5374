"""Recipes: small YAML files that merge, with every key typed and every default in one place.

Sections that a plug-in file owns (``method``, ``mask``, ``optim``, each head and each objective) are validated by that
file's own class, so a new plug-in brings its keys with it. An unknown key is an error that names the nearest known one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from sslkit import registry
from sslkit.errors import UsageError, did_you_mean
from sslkit.recipe.merging import merge, override
from sslkit.recipe.reading import read
from sslkit.recipe.sections import (
    EncoderSection,
    HeadSection,
    MaskSection,
    MethodSection,
    MonitorSection,
    ObjectiveSection,
    OptimSection,
    Strict,
    TeacherSection,
    TrainSection,
    ViewsSection,
)
from sslkit.recipe.validation import validated
from sslkit.schedules import Duration, in_epochs

RGB = 3


@dataclass(frozen=True)
class PlugIns:
    """A section, or several, with the keys of a plug-in."""

    package: str  # the plug-ins' folder
    base: type[Strict]  # has the keys that all of them share
    key: str | None = None  # the key that names the plug-in; None where the section's own name does
    default: str | None = None  # the plug-in of a section that names none


# Not one discriminated union of all sections: that would import every plug-in, and with deep clustering FAISS.
PLUG_INS = {
    "method": PlugIns("sslkit.methods", MethodSection, "name", "joint_embedding"),
    "mask": PlugIns("sslkit.masks", MaskSection, "strategy"),
    "heads": PlugIns("sslkit.heads", HeadSection, "kind", "dino"),
    "objectives": PlugIns("sslkit.objectives", ObjectiveSection),
    "optim": PlugIns("sslkit.optimizers", OptimSection, "name", "adamw"),
}

# The sections that no plug-in has a part in.
PLAIN = {"encoder": EncoderSection, "teacher": TeacherSection, "train": TrainSection, "monitor": MonitorSection}


class Recipe(Strict):
    """A complete, checked recipe."""

    method: SerializeAsAny[MethodSection] = Field(default_factory=dict, validate_default=True)
    encoder: EncoderSection = EncoderSection()
    views: ViewsSection = Field(default_factory=ViewsSection)
    mask: SerializeAsAny[MaskSection] | None = None
    teacher: TeacherSection | None = None
    heads: dict[str, SerializeAsAny[HeadSection]] = Field(default_factory=dict)
    objectives: dict[str, SerializeAsAny[ObjectiveSection]] = Field(default_factory=dict)
    optim: SerializeAsAny[OptimSection] = Field(default_factory=dict, validate_default=True)
    train: TrainSection = TrainSection()
    monitor: MonitorSection = MonitorSection()

    @model_validator(mode="before")
    @classmethod
    def _without_null_sections(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value

    @field_validator("method", "mask", "optim", mode="before")
    @classmethod
    def _plug_in(cls, value: Any, info: ValidationInfo) -> Any:
        return _plug_in_section(str(info.field_name), value)

    @field_validator("heads", "objectives", mode="before")
    @classmethod
    def _plug_ins(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping):
            return value
        field = str(info.field_name)
        return {name: _plug_in_section(field, section, name) for name, section in value.items() if section is not None}

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        for name, length in _durations(self):
            try:
                epochs = in_epochs(length, self.train.epochs)
            except UsageError as error:
                raise UsageError(f"{name} in the recipe: {error}") from None
            if epochs > self.train.epochs:
                raise UsageError(
                    f"{name} of {length} epochs exceeds the run of {self.train.epochs:g}: "
                    f"shorten it, or write a share such as '10%'"
                )
        for name, objective in self.objectives.items():
            if objective.head is not None and objective.head not in self.heads:
                raise UsageError(
                    f"objectives.{name}.head is '{objective.head}': {did_you_mean(objective.head, self.heads)}"
                )
        for name, head in self.heads.items():
            lender = self.heads.get(head.lender) if head.lender else None
            if head.lender and (lender is None or lender.kind != head.kind or lender.lender):
                raise UsageError(
                    f"heads.{name}.trunk is '{head.lender}': name a {head.kind} head that has no trunk itself"
                )
        channels = self.encoder.channels or RGB
        for name, values in (("mean", self.views.mean), ("std", self.views.std)):
            if values is not None and len(values) != channels:
                raise UsageError(
                    f"views.{name} has {len(values)} numbers, but encoder.channels is {channels}: give as many, or set "
                    f"encoder.channels={len(values)}"
                )
        if self.train.batch_size % self.train.accumulate:
            raise UsageError(
                f"batch_size {self.train.batch_size} is not a multiple of accumulate {self.train.accumulate}"
            )
        return self


def _plug_in_section(field: str, value: Any, name: str = "") -> Any:
    """A section, validated by the class of its plug-in; ``name`` is the section's, where the field has several."""
    known, where = PLUG_INS[field], f"{field}.{name}" if name else field
    if field == "method" and isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    if known.key:
        name = value.get(known.key, known.default)
        if name is None:
            _name_typo(known, value, where)
            raise UsageError(f"{where} needs a {known.key}: {', '.join(registry.names(known.package))}")
        value = {**value, known.key: str(name)}
    kind = registry.load(known.package, str(name))
    # A mask and an optimizer are their own section.
    return validated(kind if issubclass(kind, Strict) else kind.Config, value, where)


def _name_typo(known: PlugIns, section: Mapping[str, Any], where: str) -> None:
    """Refuse a key that no plug-in has: it is the mistake where the plug-in's own key is missing, too.

    Raises:
        UsageError: there is one.
    """
    kinds = registry.load_all(known.package).values()
    keys = {f.alias or name for kind in kinds for name, f in getattr(kind, "Config", kind).model_fields.items()}
    for key in section:
        if key not in keys:
            raise UsageError(f"unknown key '{where}.{key}' in the recipe: {did_you_mean(str(key), keys, f'{where}.')}")


def _durations(section: BaseModel, path: str = "") -> Iterator[tuple[str, Duration]]:
    """Every duration of a section and of those in it, with the path of its key."""
    for key, field in type(section).model_fields.items():
        value, where = getattr(section, key), f"{path}{field.alias or key}"
        if field.annotation == Duration:
            yield where, value
        for name, inner in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(inner, BaseModel):
                yield from _durations(inner, f"{where}.{name}." if name else f"{where}.")


def resolve(paths: Sequence[Path], overrides: Sequence[str] = ()) -> Recipe:
    """Recipes merged left to right, each after its ``base`` if it names one, then overrides, then checked.

    Raises:
        UsageError: an unreadable file, an unknown key, a wrong value or a contradiction.
    """
    settings: dict[str, Any] = {}
    layers = [layer for path in paths for layer in with_base(path)]
    layers += [(f"--set {assignment}", override({}, assignment)) for assignment in overrides]
    for where, layer in layers:
        if isinstance(layer.get("method"), str):
            layer = {**layer, "method": {"name": layer["method"]}}
        _sections(layer, where)
        for field in ("method", "mask", "optim"):
            settings = _without_other_plug_in(settings, layer, field)
        settings = merge(settings, layer)
    for name, kind in PLAIN.items():  # checked again with the rest, but that imports plug-ins, which takes seconds
        if settings.get(name) is not None:
            validated(kind, settings[name], name)
    return validated(Recipe, settings)


def with_base(path: Path, above: tuple[Path, ...] = ()) -> list[tuple[str, dict[str, Any]]]:
    """What messages call a recipe file, and its settings; before them the same of the file that its ``base`` names.

    Raises:
        UsageError: an unreadable file, a ``base`` that is no path, or files that name each other.
    """
    layer, where = read(path), f"recipe {path}"
    base = layer.pop("base", None)
    if base is None:
        return [(where, layer)]
    if not isinstance(base, str):
        raise UsageError(f"{where}: base is the path of another recipe, relative to this one, such as small32.yaml")
    if path.resolve() in above:
        raise UsageError(f"{where} is its own base: {' -> '.join(file.name for file in (*above, path))}")
    return [*with_base(path.parent / base, (*above, path.resolve())), (where, layer)]


def _sections(layer: Mapping[str, Any], where: str) -> None:
    """Refuse what is no section of a recipe before a plug-in is loaded, which takes seconds.

    Raises:
        UsageError: an unknown section, or a value where a section belongs.
    """
    known = [field.alias or name for name, field in Recipe.model_fields.items()]
    for key, value in layer.items():
        if (name := key.removesuffix("?")) not in known:
            raise UsageError(f"unknown key '{key}' in the recipe: {did_you_mean(name, known)}")
        if value is not None and not isinstance(value, Mapping):
            raise UsageError(f"{where}: {name} is {value!r}, not a section of keys (is a colon missing?)")


def _without_other_plug_in(settings: dict[str, Any], layer: Mapping[str, Any], field: str) -> dict[str, Any]:
    """``settings`` without the keys that only a section's own plug-in has, where ``layer`` names another.

    What all plug-ins of the section share stays: another mask strategy keeps the ratio and only chooses other tokens.
    """
    old, new, known = settings.get(field), layer.get(field), PLUG_INS[field]
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return settings
    if new.get(known.key) in (None, old.get(known.key, known.default)):
        return settings
    return {**settings, field: {key: value for key, value in old.items() if key in known.base.model_fields}}


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values, defaults included."""
    return recipe.model_dump(mode="json", by_alias=True)


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, defaults included; ``resolve`` reads it back."""
    return yaml.safe_dump(as_dict(recipe), sort_keys=False)
