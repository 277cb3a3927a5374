"""Is the representation healthy? Measures of collapse that need no labels."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

COLLAPSED_SHARE = 0.02  # of ln K: below it the targets tell nothing about the image
COLLAPSED_STD = 0.05  # of normalised features times sqrt(D), 1 when they fill the sphere evenly


def effective_rank(features: Tensor) -> float:
    """RankMe (arXiv:2210.02885): exp of the entropy of the normalised singular values.

    Args:
        features: (N, D).

    Returns:
        Between 1 (all on a line) and min(N, D); NaN where a feature is not finite.
    """
    if not torch.isfinite(features).all():
        return math.nan
    singular = torch.linalg.svdvals(features.float())
    share = singular / singular.sum().clamp_min(1e-12) + 1e-7
    return float((-(share * share.log()).sum()).exp())


def verdict(row: Mapping[str, float]) -> list[str]:
    """Warnings from one logged row, in words; empty when nothing has collapsed.

    With h = mean H(p) and H(mean p) of the teacher's targets, H(mean p) - h is what they tell about the image.
    When that is gone, h tells the two collapses apart (arXiv:2104.14294, section 5.3).
    """
    warnings = []
    for key in row:
        name, _, metric = key.rpartition("/")
        if metric != "teacher_entropy":
            continue
        log_k, entropy = row[f"{name}/ln_k"], row[key]
        if row[f"{name}/marginal_entropy"] - entropy > COLLAPSED_SHARE * log_k:
            continue
        if entropy > 0.5 * log_k:
            warnings.append(
                f"{name} has collapsed to uniform targets (entropy {entropy:.2f} of ln K = {log_k:.2f}): "
                f"lower the teacher's temperature"
            )
        else:
            warnings.append(
                f"{name} has collapsed to one prototype for all images (entropy {entropy:.2f}, "
                f"{row[f'{name}/prototypes_in_use']:.0f} in use): check the centring"
            )
    std = row.get("feature_std", math.inf)
    if std < COLLAPSED_STD:
        warnings.append(f"the features of all images are alike (normalised std {std:.3f}, healthy is near 1)")
    return warnings
