"""The tables among the files of a source, or the one that is given by ``--labels``."""

from collections.abc import Sequence
from pathlib import Path

from sslkit.data.prepare.archives.files import Files
from sslkit.data.prepare.label_tables.table import ImageLabels, ImageNames, is_table, read_labels
from sslkit.errors import SslkitError, UsageError, number_of

MOST_BYTES, MOST_TABLES = 1 << 28, 50  # larger tables, and folders of more, are no lists of classes
MOST_NOTES = 6  # lines about contradictions and doubtful columns


def find_labels(files: Files, positions: Sequence[int], given: str, root: Path) -> tuple[ImageLabels, list[str]]:
    """What the tables next to images say about them, and remarks.

    Args:
        files: of the source.
        positions: of its images among the files; they are the positions that the labels are about.
        given: ``FILE[:column]``, below ``root`` or anywhere; empty to read every table that is about the images.
        root: of the source.

    Raises:
        SslkitError: the given table cannot be read, or is not about these images.
    """
    tables = [i for i, name in enumerate(files.names) if is_table(name) and files.sizes[i] <= MOST_BYTES]
    if not given and not tables:
        return ImageLabels(), []  # indexing the names of all images takes seconds for a large source
    images = ImageNames([files.names[i] for i in positions])
    if given:
        name, data, column = _given(files, given, root)
        labels = read_labels(name, data, images, column)
        if not labels.classes:
            why = labels.tables.get(name) or "none of its columns holds their names"
            raise SslkitError(f"--labels {given} names no class of an image of {root}: {why}")
        return labels, _remarks(labels, images)
    found, unread = ImageLabels(), []
    for i in tables if len(tables) <= MOST_TABLES else []:
        try:
            found.add(read_labels(files.names[i], files.need(i), images))
        except SslkitError as error:
            unread.append(str(error))
    return found, [*(_remarks(found, images) if found.tables else []), *unread]


def _given(files: Files, given: str, root: Path) -> tuple[str, bytes, str]:
    """(name, content, column) of ``FILE[:column]``."""
    file, _, column = given.rpartition(":")
    for path, wanted in ((given, ""), (file, column)):
        if path in files.names:
            return path, files.need(files.names.index(path)), wanted
        if path and Path(path).is_file():
            resolved, top = Path(path).resolve(), root.resolve()
            below = resolved.relative_to(top).as_posix() if resolved.is_relative_to(top) else resolved.name
            return below, Path(path).read_bytes(), wanted
    raise UsageError(f"--labels {given}: no such file, in {root} or here; expected FILE or FILE:column")


def _remarks(labels: ImageLabels, images: ImageNames) -> list[str]:
    tables = "; ".join(f"{name} ({took})" for name, took in labels.tables.items())
    bare = len(images.names) - len(labels.classes) if labels.classes else 0
    remarks = [f"{'labels' if labels.classes else 'splits'} are read from {tables}"]
    if not labels.classes and not labels.divide:
        return [f"{tables}: not used; name a column by --labels {next(iter(labels.tables))}:COLUMN"]
    remarks += [f"{bare} of {len(images.names)} images are in no table and have no label"] if bare else []
    remarks += labels.notes[:MOST_NOTES]
    remarks += [f"{len(labels.notes) - MOST_NOTES} more such remarks"] if len(labels.notes) > MOST_NOTES else []
    return remarks + (
        [f"{number_of(labels.missing, 'row', 'names')} files that are not there"] if labels.missing else []
    )
