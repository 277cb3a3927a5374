"""Colour jitter: brightness, contrast, saturation and hue, in an order that is drawn too (as torchvision's)."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from sslkit.data.augmentations.base import RGB, Photometric, change, luma
from sslkit.recipe.sections import Probability

ORDERS = np.array(list(permutations(range(4))))  # (24, 4): the four operations in the order they are applied
BRIGHTNESS, CONTRAST = 0, 1


class Jitter(Photometric):
    """Changes the colours by factors around 1, and the hue by a shift around 0."""

    order = 10
    numbers = 6
    shared = 1
    columns = 6

    class Config(Photometric.Config):
        """A probability, and how far the factors go."""

        jitter: Probability = 0.8
        jitter_strength: tuple[float, float, float, float] = (
            0.4,
            0.4,
            0.2,
            0.1,
        )  # brightness, contrast, saturation, hue

    def draw(self, on: np.ndarray, u: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        """Three factors, the hue's shift in turns, and which of the 24 orders."""
        strength = np.array(self.keys.jitter_strength)
        factors = np.maximum(0, 1 + strength[:3, None] * (2 * u[:3] - 1))
        return (on, *factors, strength[3] * (2 * u[3] - 1), np.floor(u[4] * len(ORDERS)))

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Apply the four operations to each image in its own order; without RGB, brightness and contrast alone."""
        on, *parameters, order = draws.T
        defined = range(len(OPERATIONS)) if images.shape[1] == RGB else (BRIGHTNESS, CONTRAST)
        active, turns = on > 0, ORDERS[order.astype(np.int64)].T
        for turn in turns:
            for number in set(turn[active].tolist()).intersection(defined):
                change(images, active & (turn == number), OPERATIONS[number], parameters[number])


# Each changes (n, C, H, W) in [0, 1] in place; a factor is (n, 1, 1, 1).


def brightness_(x: Tensor, factor: Tensor) -> None:
    """Scale towards black."""
    x.mul_(factor).clamp_(0, 1)


def contrast_(x: Tensor, factor: Tensor) -> None:
    """Scale towards the mean luma of the image."""
    mean = luma(x).mean((1, 2, 3), keepdim=True)
    torch.addcmul(mean * (1 - factor), x, factor, out=x).clamp_(0, 1)


def saturation_(x: Tensor, factor: Tensor) -> None:
    """Scale towards the pixel's luma."""
    torch.addcmul(luma(x).mul_(1 - factor), x, factor, out=x).clamp_(0, 1)


def hue_(x: Tensor, shift: Tensor) -> None:
    """Turn the hue of HSV by a share of a whole turn; value and saturation stay.

    With value V, chroma C and hue H in sixths of a turn, channel n of the result is V - C max(0, min(k, 4 - k, 1)),
    k = (n + H) mod 6, for n = 5, 3, 1 (red, green, blue).
    """
    red, green, blue = x.split(1, 1)
    # clamp() by a tensor is maximum() at a quarter of its time.
    value = red.clamp_min(green).clamp_min_(blue)
    chroma = value - red.clamp_max(green).clamp_max_(blue)
    inverse = 1 / chroma.clamp_min(1e-12)
    # The largest channel decides which sixth the hue lies in.
    of_green = torch.addcmul(shift.new_full((), 2.0), blue - red, inverse)
    of_blue = torch.addcmul(shift.new_full((), 4.0), red - green, inverse)
    # where() is slow on a CPU; lerp by 0 or 1 is the same choice.
    chosen = torch.empty_like(value)
    sixths = of_blue.lerp_(of_green, torch.eq(value, green, out=chosen))
    sixths.lerp_((green - blue).mul_(inverse), torch.eq(value, red, out=chosen))
    sixths.add_(shift * 6)
    for channel, n in enumerate((5, 3, 1)):
        # min(k, 4 - k) is a tent around k = 2; with k in [0, 6) its distance to 2 gives it in one go.
        k = sixths + n
        k.sub_((k * (1 / 6)).floor_(), alpha=6)  # remainder() takes three times as long
        k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
        torch.addcmul(value, k, chroma, value=-1, out=x[:, channel : channel + 1])


OPERATIONS = (brightness_, contrast_, saturation_, hue_)
