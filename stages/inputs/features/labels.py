"""``--label-fraction``, for every stage that learns from labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sslkit.probes.features.features import Features


def labels_variant(label_fraction: float | None) -> str:
    """The variant's name, such as ``labels-0.01``; empty without ``--label-fraction``."""
    if label_fraction is not None and not 0 < label_fraction <= 1:
        raise typer.BadParameter(f"--label-fraction {label_fraction}: must be above 0 and at most 1")
    return "" if label_fraction is None else f"labels-{label_fraction:g}"


def few_labels(train: "Features", config: Mapping[str, Any]) -> "Features":
    """Train with the share of its labels that ``label_fraction`` and ``seed`` of a config select."""
    from sslkit.data.class_balanced import share

    if config.get("label_fraction") is None:
        return train
    return train.keep(share(train.labels, config["label_fraction"], config["seed"]))
