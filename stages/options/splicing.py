"""A set of options that several commands take, in the place of one parameter."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from stages.contract.layout import Run
from stages.inputs.encoder import EncoderSource, resolve
from stages.options.encoder import EncoderOptions


def spliced(
    command: Callable[..., None], parameter: str, options: Mapping[str, tuple[Any, Any]], make: Callable[..., Any]
) -> Callable[..., None]:
    """A command for typer that takes several options where the given one takes a single parameter.

    Args:
        command: takes ``parameter``, whose annotation need not be importable.
        parameter: its name.
        options: by name the annotation that typer reads, and the default, in the order of ``--help``.
        make: the parameter's value from the options, by keyword.
    """

    @functools.wraps(command)
    def told(**words: Any) -> None:
        value = make(**{name: words.pop(name) for name in options})
        command(**{parameter: value}, **words)

    own = inspect.signature(command).parameters
    del command.__annotations__[parameter]  # it may be a type of the library's, which is not imported for `--help`
    hints = get_type_hints(command, include_extras=True) | {
        name: annotation for name, (annotation, _) in options.items()
    }
    told.__annotations__ = hints
    given = {name: default for name, (_, default) in options.items()}
    # Typer calls by keyword, so parameters may follow each other with and without a default.
    defaults = [({name: p.default} if name != parameter else given) for name, p in own.items()]
    told.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
            for several in defaults
            for name, default in several.items()
        ]
    )
    return told


@dataclass(kw_only=True)
class EncoderChoice(EncoderOptions):
    """The options of an encoder, in the place of one parameter."""

    def open(self, path: Path) -> Run:
        """The run at a path; see ``open_run``."""
        return replace(self, run=path).open_run()

    def source(self, run: Run, image_size: int | None = None, patch_size: int | None = None) -> EncoderSource:
        """The encoder."""
        return resolve(run, self, image_size, patch_size)

    def random(self) -> "EncoderChoice":
        """The same architecture, randomly initialised."""
        return replace(self, weights="random")


def takes_encoder(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options in the place of its parameter ``encoder``, an ``EncoderChoice``."""
    hints = get_type_hints(EncoderOptions, include_extras=True)
    options = {f.name: (hints[f.name], f.default) for f in fields(EncoderOptions) if f.name != "run"}
    return spliced(command, "encoder", options, partial(EncoderChoice, run=Path()))
