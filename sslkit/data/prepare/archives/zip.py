"""A zip as files."""

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sslkit.data.prepare.archives.files import COPY_BLOCK, Files, clean, repeated
from sslkit.errors import SslkitError


class Zip(Files):
    """Members of a zip; of several with one name the last one, which is what extracting leaves."""

    def __init__(self, path: Path):
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        try:
            with zipfile.ZipFile(path) as archive:
                listed = [m for m in archive.infolist() if not m.is_dir()]
        except Exception as error:  # A damaged directory raises anything from BadZipFile to struct.error.
            raise SslkitError(f"{path} is truncated or not a zip ({error}); download or create it again") from error
        # Some programs of Windows write its own separator, which the format does not know.
        windows = any("\\" in m.filename for m in listed) and not any("/" in m.filename for m in listed)
        names = [clean(m.filename.replace("\\", "/") if windows else m.filename) for m in listed]
        self.remarks = repeated(names, path.name)
        self.remarks += [f"{path.name} has \\ in its names, which is taken for /"] if windows else []
        members = {name: (m.file_size, m.filename) for name, m in zip(names, listed, strict=True)}
        self._members: Sequence[str] = self.keep([(name, *found) for name, found in members.items()])

    def read_whole(self, index: int) -> bytes:
        """Content of one member."""
        with _named():
            if self._zip is None:
                self._zip = zipfile.ZipFile(self.path)
            return self._zip.read(self._members[index])

    def copy(self, index: int, target: IO[bytes]) -> None:
        """Write a member's content, which may be larger than the memory."""
        with _named(), zipfile.ZipFile(self.path) as archive, archive.open(self._members[index]) as source:
            shutil.copyfileobj(source, target, COPY_BLOCK)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}

    def __del__(self) -> None:
        if getattr(self, "_zip", None) is not None:
            self._zip.close()  # type: ignore[union-attr]


@contextmanager
def _named() -> Iterator[None]:
    """Whatever a damaged or encrypted member raises, from zlib.error to RuntimeError, as an OSError."""
    try:
        yield
    except (OSError, SslkitError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"damaged or unknown in the archive: {error or type(error).__name__}") from error
