"""The images that features were made of, and the names of their classes."""

from typing import TYPE_CHECKING

from sslkit.errors import SslkitError
from stages.contract.layout import Run

if TYPE_CHECKING:
    from sslkit.data.shards import Split
    from sslkit.probes.features.features import Features


def images_of(run: Run, name: str) -> "Split":
    """The images that a split's features were made of.

    Raises:
        SslkitError: the number of images or their labels differ.
    """
    from sslkit.data.shards import open_split
    from sslkit.probes.features.features import open_labels

    split, labels = open_split(run.data, name), open_labels(run.need(run.feature(name, "labels")))
    if len(split) != len(labels):
        raise SslkitError(
            f"{run.features / name} has {len(labels)} rows but {run.data} has {len(split)} {name} images: extract again"
        )
    if ((split.labels != labels) & (split.labels >= 0) & (labels >= 0)).any():
        raise SslkitError(f"{run.features / name} has other labels than the {name} images of {run.data}: extract again")
    return split


def class_names(classes: list[str], *features: "Features") -> list[str]:
    """Names of all classes in the labels; features may have more classes than the data's list."""
    count = max(int(each.labels.max()) for each in features) + 1
    return [*classes, *(f"class {number}" for number in range(len(classes), count))]
