"""Which source reads the images of a place: each is asked, the most specific first.

A place of several datasets is refused: a source that knows one of them would leave out the others.
"""

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sslkit import registry
from sslkit.data.prepare import formats
from sslkit.data.prepare.archives.files import Files, Window, clean
from sslkit.data.prepare.archives.opening import ARCHIVES, COMPRESSED_TARS, UNREADABLE, open_files
from sslkit.data.prepare.archives.tar import HEADER_ERRORS
from sslkit.data.prepare.split_names import split_within
from sslkit.data.sources.base import PACKAGE, Source
from sslkit.errors import SslkitError, UsageError, named

FEW = 10  # images next to a dataset: a logo, the figures of a README
NAMED = 8  # datasets in a message


def recognise(root: Path) -> tuple[str, str]:
    """(name of the source, what it took the place for).

    Raises:
        SslkitError: it does not exist, is a damaged archive, or holds several datasets.
    """
    files = first_files(root)
    sources = registry.load_all(PACKAGE)
    name, took = _recognised(files, root, sources)
    if name != "folder":
        _refuse_several(files, root, name, sources)
    return name, took


def _recognised(files: Files, root: Path, sources: dict[str, type[Source]]) -> tuple[str, str]:
    for name in sorted(sources, key=lambda name: (-sources[name].specific, name)):
        took = sources[name].recognise(files, root)
        if took:
            return name, took
    return "folder", ""  # whose message says what was found instead


def _refuse_several(files: Files, root: Path, name: str, sources: dict[str, type[Source]]) -> None:
    """Refuse a place where the source that recognises it finds its images in one subfolder, next to other datasets.

    Subfolders that are named like splits are parts of one dataset.

    Raises:
        UsageError: it holds several datasets, which are named.
    """
    parts = _subfolders(files)
    own = [top for top, part in parts.items() if sources[name].recognise(part, root / top)]
    if not own:
        return
    found = {top: _recognised(part, root / top, sources) for top, part in parts.items()}
    kinds = {one for top, (one, took) in found.items() if took and (one != "folder" or _images(parts[top]) >= FEW)}
    if len(kinds) < 2:
        for top in own:
            _refuse_several(parts[top], root / top, name, sources)
        return
    some = named([f"{top} ({one})" for top, (one, took) in found.items() if took], NAMED)
    give = "unpack it and give one of them"
    if root.is_dir():
        give = (
            f"give one of them, such as --source {root / own[0]}; "
            f"--source {name} --root {root} takes what that source knows and leaves out the rest"
        )
    raise UsageError(f"{root} holds several datasets: {some}; {give}")


def _subfolders(files: Files) -> dict[str, "_Part"]:
    """The files of each subfolder, by its path; leading folders that hold everything are passed over."""
    names = [name.split("/") for name in files.names]
    depth = 0
    while names and all(len(parts) > depth + 1 and parts[: depth + 1] == names[0][: depth + 1] for parts in names):
        depth += 1
    members: dict[str, list[int]] = {}
    for i, parts in enumerate(names):
        if len(parts) > depth + 1 and not split_within(parts[depth]):
            members.setdefault("/".join(parts[: depth + 1]), []).append(i)
    return {top: _Part(files, top, positions) for top, positions in members.items()}


def _images(files: Files) -> int:
    suffixes = formats.readable_among(files.names)
    return sum(PurePosixPath(name).suffix.lower() in suffixes for name in files.names)


class _Part(Files):
    """The files of a subfolder."""

    def __init__(self, files: Files, top: str, positions: Sequence[int]):
        self._whole, self._positions = files, positions
        self.names = [files.names[i][len(top) + 1 :] for i in positions]
        self.sizes = [files.sizes[i] for i in positions]

    def read_whole(self, index: int) -> bytes:
        """Content of one file."""
        return self._whole.read_whole(self._positions[index])

    def window(self, index: int) -> Window | None:
        """Where the whole has it."""
        return self._whole.window(self._positions[index])


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
