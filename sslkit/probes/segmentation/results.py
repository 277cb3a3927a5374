"""Figures of segmentation: means in percent, their 95 % intervals over photos, and the difference of two encoders.

Intervals are percentiles of the bootstrap over photos. All encoders see the same resamples, so that the interval of a
difference is that of paired photos. How much another training would differ is in none of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sslkit.probes.segmentation.masks_on_disk import Photos
from sslkit.probes.segmentation.protocols import CHOICES, Found, Probed
from sslkit.probes.segmentation.scores import bounds, class_iou, miou, resamples

Figures = dict[str, Any]


def summarise(found: Mapping[str, Found], probed: Mapping[str, Probed], photos: Photos, seed: int) -> Figures:
    """``segment/results.json``: per protocol and encoder the figures, in percent.

    Args:
        found: by encoder; empty when only the probe was asked for.
        probed: by encoder; empty without the probe. ``trained`` comes before ``random`` in both.
        photos: what was judged.
        seed: of the bootstrap.
    """
    results: Figures = {"headline": {}}
    if found:
        first = next(iter(found.values()))
        draws = resamples(len(first.rows), seed)
        results["photos_with_objects"] = len(first.rows)
        results["whole_picture"] = {}
        scores = {name: one.scores for name, one in found.items()}
        if first.heads is not None:
            by_choice = {choice: _beside(scores, choice, draws) for choice in CHOICES}
            encoders = next(iter(by_choice.values()))
            results["attention"] = {e: {choice: by_choice[choice][e] for choice in CHOICES} for e in encoders}
            results["whole_picture"]["attention"] = _figure(first.whole, draws)
            results["headline"]["jaccard"] = next(iter(results["attention"].values()))["best_head"]["jaccard"]
        if "ncut" in first.scores:
            results["ncut"] = _beside(scores, "ncut", draws)
            results["whole_picture"]["ncut"] = _figure(first.whole_as_one, draws)
            results["headline"]["ncut"] = next(iter(results["ncut"].values()))["jaccard"]
    if probed:
        results["probe"] = _probes(probed, photos.classes, seed)
        results["headline"]["miou"] = next(iter(results["probe"].values()))["miou"]
    return results


def _figure(shares: np.ndarray, draws: np.ndarray) -> Figures:
    """Mean of (n,) shares in percent, and its interval."""
    return {"jaccard": 100 * float(shares.mean()), "interval": bounds(100 * (draws @ shares) / len(shares))}


def _beside(scores: Mapping[str, Mapping[str, np.ndarray]], measure: str, draws: np.ndarray) -> Figures:
    """Figures by encoder, and the paired difference where there are two."""
    shares = {name: rows[measure] for name, rows in scores.items()}
    figures = {name: _figure(values, draws) for name, values in shares.items()}
    if len(shares) == 2:
        figures["difference"] = _figure(shares["trained"] - shares["random"], draws)
    return figures


def _probes(probed: Mapping[str, Probed], classes: Sequence[str], seed: int) -> Figures:
    draws = resamples(len(next(iter(probed.values())).tables), seed)
    figures = {name: _probe(one, classes, draws) for name, one in probed.items()}
    if len(probed) == 2:
        trained, random = (_resampled(probed[name], draws) for name in ("trained", "random"))
        gap = figures["trained"]["miou"] - figures["random"]["miou"]
        figures["difference"] = {"miou": gap, "interval": bounds(100 * (trained - random))}
    return figures


def _probe(probed: Probed, classes: Sequence[str], draws: np.ndarray) -> Figures:
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


def _resampled(probed: Probed, draws: np.ndarray) -> np.ndarray:
    """(draws,) mIoU of each resample of the photos."""
    tables = draws.astype(np.float64) @ probed.tables.reshape(len(probed.tables), -1)
    return miou(tables.reshape(len(draws), *probed.tables.shape[1:]))
