"""Colour jitter: brightness, contrast, saturation and hue, in an order that is drawn too (as torchvision's)."""

from collections.abc import Sequence
from functools import partial
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from sslkit.data.augmentations.base import RGB, Photometric, at_once, change, luma
from sslkit.recipe.sections import Probability

ORDERS = np.array(list(permutations(range(4))))  # (24, 4): the four operations in the order they are applied
BRIGHTNESS, CONTRAST, HUE = 0, 1, 3
OWN_HUES = np.array([0, 2, 4], np.float32)  # of red, green and blue, in sixths of a turn


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
        on, orders = draws[:, 0] > 0, draws[:, -1].astype(np.int64)
        turns = (6 * draws[:, HUE + 1, None] - OWN_HUES + 3) % 6 - 3
        parameters = np.concatenate([draws[:, 1 : HUE + 1], turns], 1)
        defined = range(len(OPERATIONS)) if images.shape[1] == RGB else (BRIGHTNESS, CONTRAST)
        if at_once(images) < len(ORDERS):  # large images: fewest copies
            for order in {*orders[on].tolist()}:
                numbers = [number for number in ORDERS[order].tolist() if number in defined]
                change(images, on & (orders == order), partial(_operate, numbers=numbers), parameters)
        else:  # small ones: fewest calls
            for turn in ORDERS[orders].T:
                for number in {*turn[on].tolist()}.intersection(defined):
                    change(images, on & (turn == number), partial(_operate, numbers=[number]), parameters)


def _operate(x: Tensor, parameters: Tensor, numbers: Sequence[int]) -> None:
    """Do some operations in turn; ``parameters`` (n, 6, 1, 1) are three factors, and what ``hue_`` takes."""
    for number in numbers:
        OPERATIONS[number](x, parameters[:, number : number + 1] if number < HUE else parameters[:, HUE:])


# Each changes (n, C, H, W) in [0, 1] in place; a factor is (n, 1, 1, 1).


def brightness_(x: Tensor, factor: Tensor) -> None:
    """Scale towards black."""
    x.mul_(factor).clamp_(0, 1)


def contrast_(x: Tensor, factor: Tensor) -> None:
    """Scale towards the mean luma of the image."""
    mean = luma(x.mean((2, 3), keepdim=True))
    # Not addcmul(): with two numbers that are one per image, a CPU does not vectorise it.
    x.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation_(x: Tensor, factor: Tensor) -> None:
    """Scale towards the pixel's luma."""
    torch.lerp(luma(x), x, factor, out=x).clamp_(0, 1)


def hue_(x: Tensor, turns: Tensor) -> None:
    """Turn the hue of HSV; value and saturation stay.

    With value V, chroma C = V - min and hue H in sixths of a turn, C |H| is C + green + blue - red - min, and H is
    negative where blue exceeds green. A channel is V where H is within one sixth of the channel's own hue, min beyond
    two, and linear between them. Everything is kept times C, so nothing is divided.

    Args:
        x: images.
        turns: (n, 3, 1, 1) how far H is turned, minus each channel's own hue, in sixths of a turn in [-3, 3).
    """
    red, green, blue = x.chunk(RGB, 1)
    value, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - low
    hue = (chroma - low).add_(green).add_(blue).sub_(red).copysign_(green - blue)
    # The distance from the opposite of the channel's own hue, times C; in place, as fresh memory costs a CPU the most.
    torch.addcmul(hue, chroma, turns, out=x).abs_().sub_(chroma, alpha=3).abs_()
    torch.maximum(x.add_(low - chroma), low, out=x)
    torch.minimum(x, value, out=x)


OPERATIONS = (brightness_, contrast_, saturation_, hue_)
