"""What a command line names is looked at before the command starts: a FIFO would block it, a device has no end."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from sslkit.errors import SslkitError, UsageError
from sslkit.files import special
from stages.contract.stage import Command


def check_named(command: Command) -> None:
    """Refuse options that name a FIFO, a socket, a device or a broken link, and runs that are files.

    Raises:
        UsageError: an option names such a thing, alone or as the file of ``FILE:COLUMN``.
        SslkitError: a run is a file.
    """
    for field in fields(command):  # pyright: ignore[reportArgumentType]  commands are dataclasses
        value = getattr(command, field.name)
        for given in value if isinstance(value, list) else [value]:
            if not isinstance(given, str | Path):
                continue
            for path in (str(given), str(given).rpartition(":")[0]):
                if path and (kind := special(path)):
                    raise UsageError(f"{_option(command, field.name)}{given}: it is {kind}, no regular file or folder")
            if isinstance(given, Path) and given.is_file() and _info(command, field.name).metavar == "RUN":
                raise SslkitError(f"{_option(command, field.name)}{given} is a file, no run directory")


def _info(command: Command, name: str) -> Any:
    hints = get_type_hints(type(command), include_extras=True)
    return next(each for each in hints[name].__metadata__ if isinstance(each, OptionInfo | ArgumentInfo))


def _option(command: Command, name: str) -> str:
    """``--labels `` by the field's name; empty for an argument."""
    info = _info(command, name)
    # Typer takes the first name for the default until it has seen the whole annotation.
    return f"{[info.default, *(info.param_decls or ())][0]} " if isinstance(info, OptionInfo) else ""
