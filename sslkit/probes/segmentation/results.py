"""Results of segmentation: means in percent, their 95 % intervals over photos, and the difference of two encoders.

Intervals are percentiles of the bootstrap over photos. All encoders share the same resamples, so the interval of a
difference is that of paired photos. No interval covers the variation between training runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sslkit.probes.segmentation.photos import Photos
from sslkit.probes.segmentation.protocols import CHOICES, FoundObjects, ProbeResult
from sslkit.probes.segmentation.scores import bounds, class_iou, miou, resamples

Numbers = dict[str, Any]


def summarise(
    found: Mapping[str, FoundObjects], probed: Mapping[str, ProbeResult], photos: Photos, seed: int
) -> Numbers:
    """``segment/results.json``: numbers by protocol and encoder, in percent.

    ``found`` is by encoder, and empty if only the probe was asked for; ``probed`` is empty without the probe.
    ``trained`` comes before ``random`` in both.
    """
    results: Numbers = {"headline": {}}
    if found:
        first = next(iter(found.values()))
        draws = resamples(len(first.rows), seed)
        results["photos_with_objects"] = len(first.rows)
        results["whole_picture"] = {}
        scores = {name: one.scores for name, one in found.items()}
        if first.heads is not None:
            results["attention"] = _by_choice(scores, draws)
            results["whole_picture"]["attention"] = _mean(first.whole, draws)
            results["headline"]["jaccard"] = next(iter(results["attention"].values()))["best_head"]["jaccard"]
        if first.by_class is not None:
            classes = {name: one.by_class.scores for name, one in found.items() if one.by_class is not None}
            results["attention_by_class"] = _by_choice(classes, draws)
            results["whole_picture"]["attention_by_class"] = _mean(first.by_class.whole, draws)
            first_encoder = next(iter(results["attention_by_class"].values()))
            results["headline"]["jaccard_by_class"] = first_encoder["best_head"]["jaccard"]
        if "ncut" in first.scores:
            results["ncut"] = _compared(scores, "ncut", draws)
            results["whole_picture"]["ncut"] = _mean(first.whole_as_one, draws)
            results["headline"]["ncut"] = next(iter(results["ncut"].values()))["jaccard"]
    if probed:
        results["probe"] = _probes(probed, photos.classes, seed)
        results["headline"]["miou"] = next(iter(results["probe"].values()))["miou"]
    return results


def _by_choice(scores: Mapping[str, Mapping[str, np.ndarray]], draws: np.ndarray) -> Numbers:
    """Attention's numbers by encoder and choice of the head."""
    by_choice = {choice: _compared(scores, choice, draws) for choice in CHOICES}
    encoders = next(iter(by_choice.values()))
    return {encoder: {choice: by_choice[choice][encoder] for choice in CHOICES} for encoder in encoders}


def _mean(shares: np.ndarray, draws: np.ndarray) -> Numbers:
    """Mean of (n,) shares in percent, and its interval."""
    return {"jaccard": 100 * float(shares.mean()), "interval": bounds(100 * (draws @ shares) / len(shares))}


def _compared(scores: Mapping[str, Mapping[str, np.ndarray]], measure: str, draws: np.ndarray) -> Numbers:
    """Numbers by encoder, and the paired difference if there are two encoders."""
    shares = {name: rows[measure] for name, rows in scores.items()}
    numbers = {name: _mean(values, draws) for name, values in shares.items()}
    if len(shares) == 2:
        numbers["difference"] = _mean(shares["trained"] - shares["random"], draws)
    return numbers


def _probes(probed: Mapping[str, ProbeResult], classes: Sequence[str], seed: int) -> Numbers:
    draws = resamples(len(next(iter(probed.values())).tables), seed)
    numbers = {name: _probe(one, classes, draws) for name, one in probed.items()}
    if len(probed) == 2:
        trained, random = (_resampled(probed[name], draws) for name in ("trained", "random"))
        gap = numbers["trained"]["miou"] - numbers["random"]["miou"]
        numbers["difference"] = {"miou": gap, "interval": bounds(100 * (trained - random))}
    return numbers


def _probe(probed: ProbeResult, classes: Sequence[str], draws: np.ndarray) -> Numbers:
    total = probed.tables.sum(0)
    iou = class_iou(total)
    return {
        "miou": 100 * float(miou(total)),
        "interval": bounds(100 * _resampled(probed, draws)),
        "pixel_accuracy": 100 * float(np.trace(total) / max(total.sum(), 1)),
        "iou": {name: None if np.isnan(v) else 100 * float(v) for name, v in zip(classes, iou, strict=True)},
        "train_photos": probed.photos,
        "train_patches": probed.patches,
        "patches_per_photo": probed.most,
        "test_photos": len(probed.tables),
        "lr": probed.probe.lr,
        "held_out_miou": probed.probe.held_out_miou,
        "sweep": probed.probe.sweep,
    }


def _resampled(probed: ProbeResult, draws: np.ndarray) -> np.ndarray:
    """(draws,) mIoU of each resample of the photos."""
    tables = draws.astype(np.float64) @ probed.tables.reshape(len(probed.tables), -1)
    return miou(tables.reshape(len(draws), *probed.tables.shape[1:]))
