"""Textured objects on cluttered backgrounds, made on the fly: real enough to learn from, small enough for a demo.

The class is the object's texture. Its outline, place, size, orientation and colours are drawn at random, and the
background is 1/f noise, whose spectrum is that of photographs, with distracting patches on it. So raw pixels do
not help, and every image comes with the mask of its object, against which attention maps can be checked.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from sslkit import rng
from sslkit.data.sources.base import Sample, Source

SIDE = 64  # pixels
COUNTS = {"train": 4000, "val": 1000}

Grid = np.ndarray  # (SIDE, SIDE) float
ROWS = np.arange(SIDE)[:, None] + 0.5  # centres of the pixels
COLUMNS = ROWS.T


def _wave(phase: Grid) -> Grid:
    return np.sin(2 * np.pi * phase)


# From coordinates in pixels, turned, stretched and bent with the object, to a number whose sign picks a brightness.
TEXTURES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "stripes": lambda u, v: _wave(u / 6),
    "bands": lambda u, v: _wave(u / 14),
    "checks": lambda u, v: _wave(u / 12) * _wave(v / 12),
    "dots": lambda u, v: _wave(u / 8) + _wave(v / 8) - 0.8,
    "grid": lambda u, v: np.maximum(_wave(u / 9), _wave(v / 9)) - 0.75,
    "zigzag": lambda u, v: _wave((u + 3 * np.abs((v / 6) % 2 - 1)) / 7),
    "rings": lambda u, v: _wave(np.hypot(u, v) / 7),
    "rays": lambda u, v: np.sin(8 * np.arctan2(v, u)),
    "maze": lambda u, v: _wave(u / 9) + _wave((u + 2 * v) / 17) + _wave((2 * u - v) / 19) + _wave(v / 11),
    "plain": lambda u, v: np.ones_like(u),
}


class Shapes(Source):
    """See the module. Another ``--seed`` makes other images."""

    classes = sorted(TEXTURES)
    takes_root = False

    def splits(self) -> dict[str, np.ndarray]:
        """Balanced: every class in turn."""
        return {split: np.arange(count) % len(TEXTURES) for split, count in COUNTS.items()}

    def read(self, split: str, index: int) -> Sample:
        """Draw image ``index`` of a split, with its object's mask as ``mask.png``."""
        label = index % len(TEXTURES)
        draw = rng.generator(self.seed, f"shapes-{split}", index)
        image, mask = compose(self.classes[label], draw)
        return Sample(
            key=f"{self.classes[label]}/{split}{index:05d}",
            image=_encoded(image, "JPEG", quality=95),
            extension="jpg",
            label=label,
            extras={"mask.png": _encoded(mask.astype(np.uint8) * 255, "PNG")},
            info={"class": self.classes[label]},
        )

    def fingerprint(self) -> str:
        """The images depend on the seed alone."""
        return f"shapes-{self.seed}"


def compose(texture: str, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image.

    Args:
        texture: a key of ``TEXTURES``.
        draw: random numbers.

    Returns:
        (SIDE, SIDE, 3) uint8, and (SIDE, SIDE) bool, True on the object.
    """
    clutter = _clutter(draw)
    image = clutter.copy()
    for _ in range(draw.integers(2, 5)):
        image[_outline(draw, 0.05, 0.14)[0]] = _colour(draw.uniform(0.2, 0.8), draw)
    mask, u, v = _outline(draw, 0.32, 0.48)
    light = TEXTURES[texture](*_bent(u, v, draw))[..., None] > 0
    # Two brightnesses that can be told apart, either one in front, under the same dirt as the background.
    pair = draw.permutation([draw.uniform(0.1, 0.25), draw.uniform(0.7, 0.85)])
    paint = np.where(light, _colour(pair[0], draw), _colour(pair[1], draw))
    image[mask] = (paint + 0.2 * (clutter - clutter.mean()))[mask]
    image += draw.normal(0, 0.03, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), mask


def _bent(u: Grid, v: Grid, draw: np.random.Generator) -> tuple[Grid, Grid]:
    """Coordinates shifted, stretched and gently bent: the texture stays, but no two objects agree pixel by pixel."""
    stretch, shift = draw.uniform(0.75, 1.3), draw.uniform(-6, 6, 2)
    phases, lengths = draw.uniform(0, 1, 2), draw.uniform(24, 48, 2)
    bend_u, bend_v = 2.5 * _wave(v / lengths[0] + phases[0]), 2.5 * _wave(u / lengths[1] + phases[1])
    return stretch * (u + shift[0] + bend_u), stretch * (v + shift[1] + bend_v)


def _colour(brightness: float, draw: np.random.Generator) -> np.ndarray:
    """(3,) a muted colour: were they vivid, colour alone would tell two images apart, and nothing else be learnt."""
    return brightness + draw.uniform(-0.05, 0.05, 3)


def _clutter(draw: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3) float in [0, 1]: noise whose amplitude falls as 1/f, in three mixed channels."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1
    noise = np.fft.irfft2(np.fft.rfft2(draw.normal(size=(3, SIDE, SIDE))) / frequency, s=(SIDE, SIDE))
    noise /= noise.std((1, 2), keepdims=True)
    # Mostly one brightness for all channels, as in photographs, so that colour alone does not tell images apart.
    mixed = noise[0][..., None] + 0.1 * np.einsum("cd,dhw->hwc", draw.normal(size=(3, 3)), noise)
    return (_colour(0.5, draw) + 0.14 * mixed).clip(0, 1)


def _outline(draw: np.random.Generator, smallest: float, largest: float) -> tuple[np.ndarray, Grid, Grid]:
    """A disc, polygon or star somewhere in the image: its mask, and coordinates in pixels turned with it."""
    radius = SIDE * draw.uniform(smallest, largest)
    centre = draw.uniform(0.8 * radius, SIDE - 0.8 * radius, 2)
    turn = draw.uniform(0, 2 * np.pi)
    y, x = ROWS - centre[0], COLUMNS - centre[1]
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    corners = draw.integers(3, 8)
    kind = draw.integers(3)
    if kind == 0:
        limit = radius
    elif kind == 1:  # regular polygon: a constant distance to the nearest side
        angle = np.arctan2(v, u) % (2 * np.pi / corners) - np.pi / corners
        limit = radius * np.cos(np.pi / corners) / np.cos(angle) * 1.1
    else:  # star with rounded arms
        limit = radius * (0.8 + 0.3 * np.cos(corners * np.arctan2(v, u)))
    return np.hypot(u, v) < limit, u, v


def _encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
