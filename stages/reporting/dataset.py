"""What prepared data is called: never the name of a dataset that it only shares the layout with, or is a part of."""

from pathlib import Path

from sslkit import registry
from sslkit.errors import UsageError
from stages.contract.layout import Run
from stages.options.source import SOURCES


def data_name(run: Run) -> str:
    """What people call a run's prepared data."""
    record = run.record_in(run.data) or {}
    source, root = (record.get("config") or {}).get("source"), (record.get("how") or {}).get("root")
    name = dataset_name(source, root, len(run.prepared()["classes"])) if source else ""
    return name or run.data.parent.name


def dataset_name(source: str, root: str | None, classes: int) -> str:
    """The name of data that a source read.

    Args:
        source: its name, such as ``imagenet``.
        root: the folder or archive that it was read from; None for a source that needs none.
        classes: how many classes were prepared.

    >>> dataset_name("folder", "photos/birds.zip", 12), dataset_name("cifar10", "downloads", 10)
    ('birds', 'cifar10')
    >>> dataset_name("imagenet", "photos/imagenette2", 10), dataset_name("cifar10", "downloads", 5)
    ("imagenette2, 10 classes in ImageNet's layout", 'cifar10, 5 of its 10 classes')
    """
    own = Path(root).name.partition(".")[0] if root else ""
    if source == "folder":
        return own or source
    try:
        found = registry.load(SOURCES, source)
    except UsageError:  # a plug-in that is no longer there
        return source
    if not found.dataset_classes or classes == found.dataset_classes:
        return source
    if found.layout_of:
        return f"{own or source}, {classes} classes in {found.layout_of}'s layout"
    return f"{source}, {classes} of its {found.dataset_classes} classes"
