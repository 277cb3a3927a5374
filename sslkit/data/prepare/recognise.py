"""Which source reads the images of a place: each is asked, the most specific first."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sslkit import registry
from sslkit.data.prepare.archives.files import Files, clean
from sslkit.data.prepare.archives.opening import ARCHIVES, COMPRESSED_TARS, UNREADABLE, open_files
from sslkit.data.prepare.archives.tar import HEADER_ERRORS
from sslkit.data.sources.base import PACKAGE
from sslkit.errors import SslkitError


def recognise(root: Path) -> tuple[str, str]:
    """(name of the source, what it took the place for).

    Raises:
        SslkitError: it does not exist, or is a damaged archive.
    """
    files = first_files(root)
    sources = registry.load_all(PACKAGE)
    for name in sorted(sources, key=lambda name: (-sources[name].specific, name)):
        took = sources[name].recognise(files, root)
        if took:
            return name, took
    return "folder", ""  # whose message says what was found instead


def first_files(root: Path) -> Files:
    """The files of a folder or an archive, to see what it is: of a compressed tar only the names in its beginning.

    Raises:
        SslkitError: it does not exist, or the archive is damaged.
    """
    for suffix, opener in COMPRESSED_TARS.items():
        if root.name.lower().endswith(suffix) and root.is_file():
            return _Beginning(root, opener)
    if root.is_file() and not root.name.lower().endswith(ARCHIVES):
        return _Alone(root)
    return open_files(root, root.parent)


class _Alone(Files):
    """A file that is no archive."""

    def __init__(self, path: Path):
        self.path = path
        self.keep([(path.name, path.stat().st_size, None)])

    def read_whole(self, index: int) -> bytes:
        """Its content."""
        return self.path.read_bytes()


class _Beginning(Files):
    """Names and sizes of the first members of a compressed tar; reading all of them takes minutes in a large one."""

    most_members, most_bytes = 10_000, 1 << 28

    def __init__(self, path: Path, opener: Callable[..., Any]):
        entries = []
        try:
            with opener(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if member.isreg():
                        entries.append((clean(member.name), member.size, None))
                    if len(entries) == self.most_members or member.offset_data + member.size > self.most_bytes:
                        break
        except (tarfile.TarError, *UNREADABLE, *HEADER_ERRORS) as error:
            raise SslkitError(f"{path} is truncated or damaged ({error}); download it again") from error
        self.keep(entries)

    def read_whole(self, index: int) -> bytes:
        """Not possible: only names are known."""
        raise OSError("the archive is compressed")
