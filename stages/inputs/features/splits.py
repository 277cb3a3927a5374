"""The features that probes read, and the predictions that they leave behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslkit.artifacts import DamagedFile, check_digest, read_json
from sslkit.errors import SslkitError
from stages.contract.integrity import check_recorded
from stages.contract.layout import Result, Run

if TYPE_CHECKING:
    import numpy as np

    from sslkit.probes.features.features import Features

SPLITS = ("train", "val")
INFO = {
    "splits": {str: {"images": int, "labelled": int}},
    "files": {str: {"shape": [int], "sha256": str}},
    "precision": str,
    "batch_size": int,
    "last_blocks": (int, None),
}


def features_info(run: Run) -> Result:
    """``features.json``.

    Raises:
        SslkitError: it is missing or damaged.
    """
    return read_json(run.need(run.features_info), INFO)


def extracted(run: Run) -> bool:
    """Whether `extract` made the features, or began to; those of another program come without its files."""
    return run.features_info.exists() or run.record_in(run.features) is not None


def features_there(run: Run) -> bool:
    """Whether the files that every probe reads are there; see ``feature_files``."""
    arrays = [run.feature(split, name) for split in SPLITS for name in ("cls", "labels")]
    return all(path.is_file() for path in [*arrays, *([run.features_info] if extracted(run) else [])])


def feature_files(run: Run, arrays: list[str]) -> dict[str, Path]:
    """The inputs of a probe, by name: ``features.json`` vouches for its arrays; features of another program have none.

    Raises:
        SslkitError: a file or a split is missing, or an array is not the one that was extracted.
    """
    made = features_info(run) if extracted(run) else None
    for split in SPLITS:
        if made and split not in made["splits"]:
            raise SslkitError(
                f"{run.features} has no {split}: this stage requires a labelled train and val; prepare the data with "
                "--val-fraction 0.1 and --force, then extract again"
            )
    files = {f"{split}/{name}": run.feature(split, name) for split in SPLITS for name in [*arrays, "labels"]}
    for name, path in files.items():
        run.need(path)
        if made and (known := made["files"].get(f"{name}.npy")):
            check_digest(path, known["sha256"])
    return {"features": run.features_info} if made else files


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


def read_predictions(path: Path) -> "dict[str, np.ndarray]":
    """What ``save_predictions`` wrote: ``rows``, ``labels`` and ``predicted``, (N,) each.

    Raises:
        DamagedFile: the file holds something else.
    """
    import zipfile
    import zlib

    import numpy as np

    check_recorded(path)
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("rows", "labels", "predicted")}
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFile(path, str(error).splitlines()[0][:100] or type(error).__name__) from error
    sizes = {each.shape for each in found.values()}
    if sizes != {(len(found["rows"]),)} or not all(each.dtype.kind in "iu" for each in found.values()):
        raise DamagedFile(path, "it does not hold one prediction for each image")
    return found


def save_predictions(path: Path, val: "Features", predicted: Any) -> None:
    """Write ``predictions.npz``: what a probe predicts for every labelled val image."""
    import numpy as np

    from sslkit.files import atomic

    with atomic(path) as handle:
        np.savez(handle, rows=val.rows, labels=val.labels, predicted=predicted)
