"""Which source reads the images of a place: each is asked, the most specific first."""

from pathlib import Path

from sslkit import registry
from sslkit.data.prepare.archives import first_files
from sslkit.data.sources.base import PACKAGE


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
