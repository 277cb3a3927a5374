"""The source of images that ``prepare`` is given, by its name or its path, and advice where it is another one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sslkit import registry
from sslkit.errors import SslkitError, UsageError, did_you_mean
from stages.contract.output import say

SOURCES = "sslkit.data.sources"
GENERATED = "shapes"


def find_source(source: str | None, root: str | None) -> tuple[str, str | None, str]:
    """(name, root, what it was taken for); given a path instead of a name, every source is asked whether it is its.

    Without a source images are generated, and that is said.

    Raises:
        UsageError: it is neither a source nor a path, or only ``root`` is given.
    """
    if source is None:
        if root is not None:
            raise UsageError(f"--root {root} goes with a --source NAME; --source {root} recognises what it holds")
        say(f"no --source was given, so these are generated images ({GENERATED}); for your own add --source PATH")
        return GENERATED, None, ""
    known = registry.names(SOURCES)
    if source.replace("-", "_") in known:
        return source.replace("-", "_"), root, ""
    if root is None and Path(source).expanduser().exists():
        from sslkit.data.prepare.recognise import recognise

        name, took = recognise(Path(source).expanduser())
        return name, source, took
    raise UsageError(f"--source {source} is neither a source nor a path that exists: {did_you_mean(source, known)}")


@contextmanager
def read_as(name: str, root: str | None) -> Iterator[None]:
    """Where ``root`` cannot be read as the source of this name, add to the error which other source reads it."""
    try:
        yield
    except SslkitError as error:
        if type(error) in (SslkitError, UsageError) and (hint := _otherwise_read(name, root)):
            raise type(error)(f"{error}; {hint}") from error
        raise


def _otherwise_read(name: str, root: str | None) -> str:
    from sslkit.data.prepare.recognise import recognise

    try:
        if root is None or not Path(root).expanduser().exists():
            return ""
        found, took = recognise(Path(root).expanduser())
    except SslkitError:
        return ""  # the failure itself is the message
    return f"{root} holds {took}: --source {root} takes them" if took and found != name else ""


def chosen_classes(text: str | None) -> int | tuple[str, ...] | None:
    """A number of classes, or the names in a file."""
    if text is None or text.isdecimal():
        return int(text) if text else None
    path = Path(text).expanduser()
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {text} is neither a number nor a file of class names ({error})") from error
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
