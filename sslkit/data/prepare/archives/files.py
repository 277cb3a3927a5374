"""What a folder and every kind of archive are to those who read them."""

from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

from sslkit.errors import SslkitError, number_of
from sslkit.files import check_regular

MOST_BYTES = 1 << 30  # of a file that is read as a whole; what is larger is no photo, or a bomb
COPY_BLOCK = 1 << 20


class Window(NamedTuple):
    """Where the bytes of a file lie uncompressed: a part of a file on the disk."""

    path: Path
    offset: int
    size: int


class Files(ABC):
    """Files by position, sorted by name; hidden ones are left out.

    Attributes:
        names: paths with ``/`` between their parts, relative to the root.
        sizes: bytes of each.
        places: what tells whether two names are links to one file.
        hidden: how many files were left out because they, or a folder of theirs, are hidden.
        remarks: sentences about what was passed over.
    """

    names: list[str]
    sizes: Sequence[int]
    places: Sequence[Any]
    hidden: int
    remarks: Sequence[str] = ()

    def read(self, index: int) -> bytes:
        """Content of one file.

        Raises:
            OSError: it cannot be read, is too large or no regular file.
        """
        check_bytes(self.sizes[index])
        return self.read_whole(index)

    def need(self, index: int) -> bytes:
        """Content of a file that there is no going on without, such as a table.

        Raises:
            SslkitError: it cannot be read.
        """
        try:
            return self.read(index)
        except OSError as error:
            raise SslkitError(f"{self.names[index]} cannot be read: {error.strerror or error}") from error

    @abstractmethod
    def read_whole(self, index: int) -> bytes:
        """Content of one file, whose size has been checked.

        Raises:
            OSError: it cannot be read.
        """

    def window(self, index: int) -> Window | None:
        """Where a file's bytes lie, None if they are compressed or it is no regular file."""
        return None

    def copy(self, index: int, target: IO[bytes]) -> None:
        """Write a file's content, which may be larger than the memory."""
        target.write(self.read_whole(index))

    def keep(self, entries: list[tuple[str, int, Any]]) -> Sequence[Any]:
        """Set the attributes from (name, size, where) entries; returns every ``where`` in the names' order."""
        seen = [e for e in entries if not any(p.startswith((".", "__MACOSX")) for p in e[0].split("/"))]
        seen.sort(key=itemgetter(0))
        self.names, self.sizes = [e[0] for e in seen], array("q", (e[1] for e in seen))
        numbers = all(isinstance(e[2], int) for e in seen)
        self.places = array("q", (e[2] for e in seen)) if numbers else [e[2] for e in seen]
        self.hidden = len(entries) - len(seen)
        return self.places


def check_bytes(size: int) -> None:
    """Refuse what is too large to be read as a whole.

    Raises:
        OSError: it is.
    """
    if size > MOST_BYTES:
        raise OSError(f"it has {size} bytes; files of up to {MOST_BYTES >> 20} MiB are read")


def check_readable(path: Path) -> None:
    """``check_regular`` of an archive, which there is no going on without.

    Raises:
        SslkitError: it is no regular file, or does not exist.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise SslkitError(f"{path} cannot be read: {error.strerror or error}") from error


def repeated(names: Sequence[str], what: str) -> list[str]:
    """A remark on names that occur more than once in an archive, of which the last one counts; none if none does."""
    again = sum(Counter(names).values()) - len(set(names))
    if not again:
        return []
    such = next(name for name, count in Counter(names).items() if count > 1)
    return [f"{number_of(again, f'member of {what}', 'has')} the name of a later one, which is used (such as {such})"]


def clean(name: str) -> str:
    """A member's name without a leading ``./``."""
    return name.removeprefix("./")
