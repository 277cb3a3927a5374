"""Jigsaw puzzles: in which order are nine tiles of an image (Noroozi and Favro, arXiv:1603.09246)?

    tiles t_1 ... t_9 of a 3 x 3 grid    p one of P permutations    loss = -log F_p(f(t_p(1)), ..., f(t_p(9)))

The encoder f sees one tile at a time, so it has to recognise parts of objects; only the last layers see all nine.
Three shortcuts are closed as in the paper's section 4.2: edges that continue from tile to tile, by random gaps; colours
and brightness that neighbours share, by giving each tile mean 0 and standard deviation 1; remembered places of single
tiles, by permutations that are far apart.
"""

from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.batch import Batch
from sslkit.errors import UsageError
from sslkit.heads.base import mlp
from sslkit.methods.base import Classifying, DataFacts, Losses, Preview, augmented
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment

SIDE = 3  # tiles in a row
TILES = SIDE * SIDE
EPSILON = 1e-5  # added to a tile's variance: one of a single colour becomes 0


class Jigsaw(Classifying):
    """An MLP on the nine tiles' CLS, in the order they are seen, predicts the permutation."""

    class Config(Classifying.Config):
        """Keys of the recipe's ``method`` section."""

        permutations: int = Field(default=100, gt=1, le=10_000)  # P; the paper's best is 1000
        tile: int | None = Field(default=None, gt=0)  # pixels; None: see ``tile_size``
        hidden: int = Field(default=512, gt=0, le=2**24)

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        assert isinstance(recipe.method, self.Config)
        crop = recipe.views.global_.size or recipe.encoder.image_size
        patch = self.encoder.patch_size if self.encoder.vit else 0
        self.cell, self.tile = crop // SIDE, recipe.method.tile or tile_size(crop, patch)
        if self.tile > self.cell or (patch and self.tile % patch):
            raise UsageError(
                f"method.tile of {self.tile} pixels must be a multiple of the patch size {patch or 1} and fit the "
                f"{self.cell} pixels of a cell, a third of the {crop} of a crop"
            )
        self.orders = permutation_set(recipe.method.permutations, recipe.train.seed)
        self.classifier = mlp(TILES * self.encoder.width, recipe.method.hidden, len(self.orders), layers=2)

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        crops = augmented(batch)[0]
        puzzles, tiles = self._puzzles(crops, batch, at)
        cls = self.encode(tiles.flatten(0, 1), batch, at).unflatten(0, tiles.shape[:2])  # (9, V, B, D)
        logits = self.classifier(cls.permute(1, 2, 0, 3).flatten(2)).float()  # (V, B, P)
        loss = F.cross_entropy(logits.flatten(0, 1), puzzles.flatten())
        return self.losses(loss, logits, puzzles, cls[0, 0])

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """Each crop, a picture of its tiles in the order they are seen, and the permutation to predict."""
        crops = augmented(batch)[0]
        puzzles, tiles = self._puzzles(crops, batch, at)
        captions = [", ".join(f"permutation {p}" for p in column) for column in puzzles.T.tolist()]
        return Preview({"crop": crops, "tiles as seen": put_together(tiles)}, captions=captions)

    def _puzzles(self, crops: Tensor, batch: Batch, at: Moment) -> tuple[Tensor, Tensor]:
        """(V, B, 3, S, S) crops -> which permutation, (V, B), and its tiles (9, V, B, 3, t, t) in the order seen."""
        puzzles = np.empty(crops.shape[:2], np.int64)
        offsets = np.empty((TILES, *crops.shape[:2], 2), np.int64)
        for view, index in np.ndindex(*puzzles.shape):
            draw = rng.generator(self.recipe.train.seed, "jigsaw", at.step, int(batch.samples[index]), view)
            puzzles[view, index] = draw.integers(len(self.orders))
            offsets[:, view, index] = draw.integers(0, self.cell - self.tile + 1, (TILES, 2))
        cells = torch.from_numpy(np.moveaxis(self.orders[puzzles], -1, 0).copy())
        tiles = cut_tiles(crops, cells, torch.from_numpy(offsets), self.cell, self.tile)
        return torch.from_numpy(puzzles).to(crops.device, non_blocking=True), normalised(tiles)


def tile_size(crop: int, patch: int) -> int:
    """The side of a tile, smaller than a third of the crop so that there are gaps: 64 of 75 pixels in the paper.

    It is the largest multiple of the patch size that leaves a gap; without patches (0), the paper's share.

    Raises:
        UsageError: not one patch fits.

    >>> tile_size(225, 16), tile_size(224, 16), tile_size(40, 8), tile_size(32, 4), tile_size(225, 0)
    (64, 64, 8, 8, 64)
    """
    cell = crop // SIDE
    tile = (cell - 1) // patch * patch if patch else cell * 64 // 75
    if not tile:
        raise UsageError(
            f"crops of {crop} pixels make cells of {cell}, too small for a tile of patch size {patch} and a gap: "
            f"--set views.global.size={-(-SIDE * (patch + 1) // max(patch, 1)) * max(patch, 1)}"
        )
    return tile


@lru_cache(maxsize=1)
def _all_orders() -> np.ndarray:
    """(9, 9!) uint8, every permutation of nine tiles."""
    return np.array(list(permutations(range(TILES))), dtype=np.uint8).T.copy()


def permutation_set(count: int, seed: int) -> np.ndarray:
    """Permutations far apart in Hamming distance, chosen one by one (the paper's algorithm 1).

    The paper takes the one with the largest distance to all chosen so far together. Here the distance to the nearest
    of them comes first and that sum second: for 100 the mean stays at 8.08, and the two nearest of all differ in 6
    places instead of 2. The seed decides the first one.

    Returns:
        (P, 9) int64: the cell that is seen in each place.
    """
    orders = _all_orders()
    chosen = [int(rng.generator(seed, "jigsaw-permutations").integers(orders.shape[1]))]
    together, nearest = np.zeros(orders.shape[1], np.int32), np.full(orders.shape[1], TILES, np.int32)
    for _ in range(count - 1):
        distance = np.zeros(orders.shape[1], np.uint8)
        for place, cell in zip(orders, orders[:, chosen[-1]], strict=True):
            distance += place != cell
        together += distance
        np.minimum(nearest, distance, out=nearest)
        chosen.append(int((nearest * (TILES * count) + together).argmax()))
    return orders[:, chosen].T.astype(np.int64)


def cut_tiles(images: Tensor, cells: Tensor, offsets: Tensor, cell: int, tile: int) -> Tensor:
    """Tiles of a 3 x 3 grid of cells in the middle of each image: (V, B, 3, S, S) -> (T, V, B, 3, t, t).

    ``cells`` (T, V, B), from 0 to 8 row by row, says which cell each tile comes from, and ``offsets`` (T, V, B, 2) how
    many pixels it is from the cell's top and left; both are int64 on the host. ``cell`` and ``tile`` are pixels.
    """
    margin = (images.shape[-1] - SIDE * cell) // 2
    corner = margin + cell * torch.stack([cells // SIDE, cells % SIDE], -1) + offsets
    pixels = (corner[..., None] + torch.arange(tile)).to(images.device, non_blocking=True)  # (T, V, B, 2, t)
    rows, columns = pixels.unbind(-2)
    view, index, channel = (torch.arange(n, device=images.device) for n in images.shape[:3])
    return images[
        view[:, None, None, None, None],
        index[:, None, None, None],
        channel[:, None, None],
        rows[..., None, :, None],
        columns[..., None, None, :],
    ]


def normalised(tiles: Tensor) -> Tensor:
    """(..., t, t) -> mean 0 and standard deviation 1 of each channel of each tile."""
    variance, mean = torch.var_mean(tiles, (-2, -1), correction=0, keepdim=True)
    return (tiles - mean) * torch.rsqrt(variance + EPSILON)


def put_together(tiles: Tensor) -> Tensor:
    """(9, ..., 3, t, t) tiles, row by row -> (..., 3, 3t, 3t) one picture."""
    rows = [torch.cat(list(tiles[first : first + SIDE]), -1) for first in range(0, TILES, SIDE)]
    return torch.cat(rows, -2)
