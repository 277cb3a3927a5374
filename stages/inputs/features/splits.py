"""The features that probes read, and the predictions that they leave behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslkit.artifacts import read_json
from sslkit.errors import SslkitError
from stages.contract.layout import Run

if TYPE_CHECKING:
    from sslkit.probes.features.features import Features

SPLITS = ("train", "val")


def feature_files(run: Run, arrays: list[str]) -> dict[str, Path]:
    """The inputs of a probe, by name: ``features.json`` vouches for its arrays; features of another program have none.

    Raises:
        SslkitError: a file or a split is missing.
    """
    for split in SPLITS:
        if run.features_info.exists() and split not in read_json(run.features_info)["splits"]:
            raise SslkitError(
                f"{run.features} has no {split}: this stage requires a labelled train and val; prepare the data with "
                "--val-fraction 0.1 and --force, then extract again"
            )
    files = {f"{split}/{name}": run.feature(split, name) for split in SPLITS for name in [*arrays, "labels"]}
    for path in files.values():
        run.need(path)
    return {"features": run.features_info} if run.features_info.exists() else files


def open_splits(run: Run, arrays: Sequence[str] = ("cls",), last: int | None = None) -> "tuple[Features, Features]":
    """Features of train and val.

    Args:
        run: that holds them.
        arrays: whose rows are joined.
        last: of ``blocks``, how many of the last ones; None takes all.

    Raises:
        SslkitError: the arrays do not fit each other.
    """
    from sslkit.probes.features.features import open_features

    train, val = (
        open_features([run.feature(split, name) for name in arrays], run.feature(split, "labels"), last)
        for split in SPLITS
    )
    return train, val


def save_predictions(path: Path, val: "Features", predicted: Any) -> None:
    """Write ``predictions.npz``: what a probe predicts for every labelled val image."""
    import numpy as np

    from sslkit.files import atomic

    with atomic(path) as handle:
        np.savez(handle, rows=val.rows, labels=val.labels, predicted=predicted)
