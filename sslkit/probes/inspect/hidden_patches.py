"""The patches that each masking strategy would hide of an image."""

from typing import get_args

import numpy as np
from torch import Tensor

from sslkit import registry
from sslkit.masks.base import Masking


def strategies(ratio: float) -> dict[str, Masking]:
    """One masking of each registered strategy, and of each of its orders; every one hides ``ratio`` of the patches.

    Strategies that need the true object are left out: a photograph does not come with one.
    """
    found = {}
    for name in registry.names("sslkit.masks"):
        kind = registry.load("sslkit.masks", name)
        if kind.needs_objects:
            continue
        order = kind.model_fields.get("order")
        for value in get_args(order.annotation) if order else ():
            found[f"{name} {value}"] = _build(kind, ratio, order=value)
        if not order:
            found[name] = _build(kind, ratio)
    return found


def _build(kind: type[Masking], ratio: float, **more: str) -> Masking:
    # No coin: a picture of an unmasked crop would show nothing.
    return kind.model_validate({"ratio": (ratio, ratio), "probability": 1.0, **more})


def hide(maskings: dict[str, Masking], attention: Tensor, sample: int, seed: int = 0) -> dict[str, Tensor]:
    """The masks that strategies draw for one image.

    Args:
        maskings: by name, as ``strategies`` gives them.
        attention: (h, w) CLS attention, mean over heads; its shape is the patch grid.
        sample: number of the image, which keys the random draws.
        seed: the same seed gives the same masks.

    Returns:
        ``{name: (h, w) bool}``, True = hidden.
    """
    grid = (attention.shape[0], attention.shape[1])
    row = attention.reshape(1, -1)
    return {
        name: masking.draw(seed, 0, np.array([sample]), 1, grid, row).mask.view(grid).cpu()
        for name, masking in maskings.items()
    }
