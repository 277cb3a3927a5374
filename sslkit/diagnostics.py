"""Is the representation healthy? Measures of collapse that need no labels."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

COLLAPSED_SHARE = 0.02  # of ln K: below it the targets say nothing about the image
COLLAPSED_STD = 0.05  # of normalised features times sqrt(D), 1 when they fill the sphere evenly
PAIRS_AT_ONCE = 1024  # rows of the matrix of all pairs
UNIFORM, ONE_PROTOTYPE, ALIKE = "uniform targets", "one prototype", "features alike"


def effective_rank(features: Tensor) -> float:
    """RankMe (arXiv:2210.02885) of (N, D) features: exp of the entropy of the normalised singular values.

    Returns:
        Between 1 (all on a line) and min(N, D); NaN where a feature is not finite.
    """
    if not torch.isfinite(features).all():
        return math.nan
    singular = torch.linalg.svdvals(features.float())
    share = singular / singular.sum().clamp_min(1e-12) + 1e-7
    return float((-(share * share.log()).sum()).exp())


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of two views of each image, (N, D), on the unit sphere (arXiv:2005.10242, alpha = 2).

    Returns:
        0 where views make no difference, 2 where the two are as different as unrelated images, at most 4.
    """
    difference = F.normalize(first.double(), dim=-1) - F.normalize(second.double(), dim=-1)
    return float(difference.square().sum(-1).mean())


def uniformity(features: Tensor) -> float:
    """Log of the mean Gaussian potential of all pairs of N >= 2 images on the unit sphere (arXiv:2005.10242, t = 2).

    Returns:
        0 where all images are alike; the more evenly they fill the sphere the lower, with a bound near -4.
    """
    unit = F.normalize(features.double(), dim=-1)
    total, count = 0.0, len(unit)
    for start in range(0, count, PAIRS_AT_ONCE):
        cosine = unit[start : start + PAIRS_AT_ONCE] @ unit[start:].T
        # Each pair once: row i of the part meets the rows after it. |x - y|^2 = 2 - 2 cos on the sphere.
        total += float((4 * cosine - 4).exp().triu(1).sum())
    return math.log(total / (count * (count - 1) / 2))


def entropy(p: Tensor) -> Tensor:
    """(..., K) distributions -> (...) entropies in nats."""
    return -(p * p.clamp_min(1e-12).log()).sum(-1)


@torch.no_grad()
def assignment_metrics(
    targets: Tensor, cross_entropies: Tensor, center: Tensor | None = None, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Metrics of the soft assignment of tokens to K prototypes, which ``collapses`` reads.

    With p the teacher's and q the student's distribution, H(p, q) = h(p) + KL(p || q). KL -> 0 is collapse: h -> 0 when
    one prototype takes all (no centring), h -> ln K when all are alike (no sharpening); arXiv:2104.14294, section 5.3.

    Args:
        targets: (M, K), the teacher's distributions.
        cross_entropies: mean H(p, q), 0-dim.
        center: (K,); None where there is none, and its norm is not logged.
        weights: (M,) how much each distribution counts in ``cross_entropies``; None: all alike.

    Returns:
        0-dim tensors on the device; entropies are in nats.
    """
    entropies = entropy(targets)
    mean = entropies.mean() if weights is None else (entropies * weights).sum() / weights.sum()
    marginal = targets.mean(0)
    centring = {} if center is None else {"center_norm": center.norm()}
    return {
        "teacher_entropy": mean,
        "kl": cross_entropies - mean,
        "marginal_entropy": entropy(marginal),
        "prototypes_in_use": targets.new_zeros(targets.shape[-1]).index_fill_(0, targets.argmax(-1), 1.0).sum(),
        **centring,
        "ln_k": mean.new_full((), math.log(targets.shape[-1])),
    }


def collapses(row: Mapping[str, Any]) -> dict[str, str]:
    """What has collapsed in one logged row, and how; empty when nothing has.

    With h = mean H(p) and H(mean p) of the teacher's targets, H(mean p) - h is what they say about the image. When that
    is gone, h distinguishes the two collapses (arXiv:2104.14294, section 5.3). Metrics that are missing, null or not
    finite count as healthy.

    Returns:
        By objective ``"uniform targets"`` or ``"one prototype"``; ``"features alike"`` under ``"features"``.

    >>> collapses({"dino/teacher_entropy": 6.9, "dino/marginal_entropy": 6.9, "dino/ln_k": 6.93})
    {'dino': 'uniform targets'}
    """
    found = {}
    for key in row:
        name, _, metric = key.rpartition("/")
        if metric != "teacher_entropy":
            continue
        entropy, marginal, log_k = (_number(row, f"{name}/{m}") for m in (metric, "marginal_entropy", "ln_k"))
        # A comparison with NaN is false: no verdict.
        if marginal - entropy <= COLLAPSED_SHARE * log_k:
            found[name] = UNIFORM if entropy > 0.5 * log_k else ONE_PROTOTYPE
    if _number(row, "feature_std") < COLLAPSED_STD:
        found["features"] = ALIKE
    return found


def verdict(row: Mapping[str, Any]) -> list[str]:
    """The collapses of one logged row as sentences, with the numbers that show them and what to try."""
    return [_sentence(name, kind, row) for name, kind in collapses(row).items()]


def _sentence(name: str, kind: str, row: Mapping[str, Any]) -> str:
    if kind == ALIKE:
        return f"the features of all images are alike (normalised std {row['feature_std']:.3f}, healthy is near 1)"
    entropy = f"entropy {row[f'{name}/teacher_entropy']:.2f} of ln K = {row[f'{name}/ln_k']:.2f}"
    if kind == UNIFORM:
        return f"{name} has collapsed to uniform targets ({entropy}): lower the teacher's temperature"
    in_use = _number(row, f"{name}/prototypes_in_use")
    used = "" if math.isnan(in_use) else f", {in_use:.0f} in use"
    return f"{name} has collapsed to one prototype for all images ({entropy}{used}): check the centring"


def _number(row: Mapping[str, Any], key: str) -> float:
    """A metric of a row; NaN where it is missing or null, as JSON has it for what was not finite."""
    value = row.get(key)
    return math.nan if value is None else float(value)
