"""Values as a section of a recipe, with an error of one line that names the key."""

from collections.abc import Sequence
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sslkit.errors import UsageError, did_you_mean

M = TypeVar("M", bound=BaseModel)
SHORT = Repr()  # of a value, for a message of one line


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
        what = first["msg"].lower().replace("tuple", "list")
        if first["type"] == "model_type":
            what = "expected a section of keys"
        raise UsageError(f"{path} in the recipe: {what}, not {SHORT.repr(first['input'])}") from None


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
