"""The patches that each masking strategy would hide of an image."""

from typing import get_args

import numpy as np
from torch import Tensor

from sslkit import registry
from sslkit.masks.base import Masking


def strategies(ratio: float) -> dict[str, Masking]:
    """A masking of each registered strategy and each of its orders that hides ``ratio`` of the patches.

    Strategies that need the true object are left out: a photo does not come with one.
    """
    found = {}
    for name in registry.names("sslkit.masks"):
        kind = registry.load("sslkit.masks", name)
        if kind.needs_objects:
            continue
        # Never skipped at random: a picture of an unmasked crop would show nothing.
        settings = {"ratio": (ratio, ratio), "probability": 1.0}
        order = kind.model_fields.get("order")
        if not order:
            found[name] = kind.model_validate(settings)
        else:
            for value in get_args(order.annotation):
                found[f"{name} {value}"] = kind.model_validate({**settings, "order": value})
    return found


def hide(maskings: dict[str, Masking], attention: Tensor, sample: int, seed: int = 0) -> dict[str, Tensor]:
    """The masks that strategies draw for one image.

    Args:
        maskings: by name, from ``strategies``.
        attention: (h, w) CLS attention, mean over heads; its shape is the patch grid.
        sample: number of the image, which keys the random draws.
        seed: of the random draws.

    Returns:
        ``{name: (h, w) bool}``, True = hidden.
    """
    grid, row, samples = (attention.shape[0], attention.shape[1]), attention.reshape(1, -1), np.array([sample])
    return {name: each.draw(seed, 0, samples, 1, grid, row).mask.view(grid).cpu() for name, each in maskings.items()}
