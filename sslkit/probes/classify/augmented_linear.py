"""The papers' linear probe: every epoch, the head sees new random crops of train, passed through the frozen encoder.

Random resized crops (8 to 100 % of the area, bicubic) and flips, no colours (arXiv:2104.14294, section 3.2). An epoch
costs one pass of the encoder over train, whatever the number of settings: all of them learn from the same features. A
stratified tenth of train is never trained on; the setting is chosen by its features as ``extract`` wrote them. The
chosen head is kept as it is, trained on nine tenths: training again on all of train would double the cost, and the
papers do not do it either. The features of val are those on disk.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.data.loader import Images, batches, in_memory
from sslkit.data.order import Order
from sslkit.data.views import ViewMaker
from sslkit.errors import SslkitError
from sslkit.probes.classify.linear import LinearResult, evaluate, statistics
from sslkit.probes.classify.linear_heads import LinearHeads, cosine
from sslkit.probes.classify.linear_sweep import LinearSettings, LinearSweep, best_setting, held_out_accuracy, plan_sweep
from sslkit.probes.features.extraction import EncoderEmbedding
from sslkit.probes.features.features import Features, check_pair
from sslkit.recipe.sections import ViewsSection

CHECKED = 8  # images encoded again to verify that the features on disk are this encoder's
TOLERANCE = 0.05  # relative to the features' norm: bf16 and other devices stay below 0.01


@dataclass(frozen=True)
class AugmentedCrops:
    """Makes the features of augmented crops.

    Attributes:
        images: of train; image i belongs to row i of the features.
        arrays: which of the encoder's arrays make a row, joined as ``open_features`` joins the files of those names.
        layers: how many of the last ``blocks`` to use; None uses all.
        at_once: images per forward pass.
        workers: loader processes; their number never changes a result.
    """

    images: Images
    embedding: EncoderEmbedding
    arrays: Sequence[str]
    layers: int | None = None
    at_once: int = 64
    workers: int = 0
    scale: tuple[float, float] = (0.08, 1.0)  # of the image's area, as for classifiers (arXiv:1409.4842, section 6)

    def views(self, seed: int) -> ViewMaker:
        """The view maker: one random resized crop with a flip."""
        off = dict.fromkeys(("jitter", "gray", "blur", "solarize"), 0.0)
        section = {"global": {"count": 1, "scale": self.scale}, "augment": {"flip": 0.5, **off}}
        encoder = self.embedding.frozen.encoder
        patch = encoder.patch_size if encoder.vit else 1
        section, channels = ViewsSection.model_validate(section), self.embedding.channels
        return ViewMaker(section, self.embedding.image_size, patch, seed, channels)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Uint8 (B, C, S, S) -> (B, D) float32 on the device."""
        found = self.embedding(pixels.to(self.embedding.device, non_blocking=True))
        return joined(found, self.arrays, self.layers)


def joined(found: Mapping[str, Tensor], arrays: Sequence[str], layers: int | None) -> Tensor:
    """Concatenate arrays row by row: (B, D) and the last ``layers`` of (B, L, D) -> (B, sum)."""
    parts = [found[name][:, -layers:] if layers and found[name].ndim == 3 else found[name] for name in arrays]
    return torch.cat([part.flatten(1) for part in parts], 1)


@dataclass(frozen=True)
class PiecewiseOrder(Order):
    """The order of some images, with each batch split into pieces of one forward pass."""

    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))  # (samples,) image numbers
    piece: int = 64  # images, at most

    def epoch(self, epoch: int) -> np.ndarray:
        """(samples,) int64, a permutation of ``rows``."""
        return self.rows[super().epoch(epoch)]

    def micro_batches(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, image numbers) of every piece, for steps start to stop - 1."""
        for epoch, batch in super().micro_batches(start, stop):
            yield from ((epoch, batch[at : at + self.piece]) for at in range(0, len(batch), self.piece))


def augmented_linear(
    train: Features,
    val: Features,
    crops: AugmentedCrops,
    settings: LinearSettings,
    device: torch.device,
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> LinearResult:
    """Sweep on augmented crops, choose, evaluate.

    The rows of ``train`` are those of the images as ``extract`` sees them: the probe chooses and standardises by them.
    ``val`` is used once, at the end; ``report`` is told after the first epoch how much time remains.

    Raises:
        SslkitError: one class only, NaN, different widths, too few images to hold some out, features of another
            encoder, an image that cannot be read.
    """
    classes, sweep = check_pair(train, val), plan_sweep(train, settings)
    check_encoder(train, crops)
    mean, scale = (values.to(device) for values in statistics(train, settings.standardize))
    heads = _fit(train, sweep, classes, crops, settings, mean, scale, progress, report)
    accuracy = held_out_accuracy(heads, train, sweep.held, mean, scale)
    return evaluate(heads.fold(best_setting(accuracy), mean, scale), val, sweep, accuracy, len(sweep.rest))


def check_encoder(train: Features, crops: AugmentedCrops) -> None:
    """Verify on a few images that the features on disk are what this encoder computes.

    Raises:
        SslkitError: they are not.
    """
    if len(train.parts[0]) != len(crops.images):
        raise SslkitError(
            f"{train.path} has {len(train.parts[0])} rows, but train has {len(crops.images)} images: extract again"
        )
    some = np.linspace(0, len(train) - 1, min(CHECKED, len(train))).astype(np.int64)
    size = crops.embedding.image_size
    pixels = torch.stack([evaluation_crop(crops.images.image(i), size) for i in train.rows[some].tolist()])
    there, here = train.take(some), crops.encode(pixels).cpu()
    if there.shape != here.shape or not (here - there).norm() <= TOLERANCE * there.norm():
        raise SslkitError(
            f"{train.path} is not what the encoder computes from these images: encoder or data changed; extract again"
        )


def _fit(
    train: Features,
    sweep: LinearSweep,
    classes: int,
    crops: AugmentedCrops,
    settings: LinearSettings,
    mean: Tensor,
    scale: Tensor,
    progress: bool,
    report: Callable[[str], None],
) -> LinearHeads:
    """Train all heads on crops of the rows to learn from, on the device of ``mean`` and ``scale``."""
    images, rows, epochs = len(sweep.rest), train.rows[sweep.rest], settings.epochs
    size = settings.images_per_step(images)
    heads = LinearHeads(sweep.grid, classes, train.width, size, mean.device)
    order = PiecewiseOrder(images, size, seed=settings.seed, rows=rows, piece=crops.at_once)
    steps, per_step = epochs * order.steps_per_epoch, -(-size // crops.at_once)
    views, pin = crops.views(settings.seed), crops.embedding.device.type == "cuda"
    pieces = batches(in_memory(crops.images), views, order, 0, steps, crops.workers, pin)
    bar = tqdm(total=steps * size, desc="linear", unit=" crops", disable=None if progress else True, leave=False)
    began = time.monotonic()
    for step in range(steps):
        batch = [next(pieces) for _ in range(per_step)]
        features = torch.cat([crops.encode(piece.crops[0][0]) for piece in batch]).to(mean.device)
        truth = torch.cat([piece.labels for piece in batch]).to(mean.device)
        heads.step(features.sub_(mean).mul_(scale), truth, cosine(step, steps))
        bar.update(size)
        if step + 1 == order.steps_per_epoch and epochs > 1:
            seconds = time.monotonic() - began
            left = seconds * (epochs - 1)
            words = f"{left / 60:.0f} minutes" if left >= 90 else f"{left:.0f} seconds"
            what = f"a crop of {(step + 1) * size} of the {images} images to learn from, in whole steps of {size}"
            report(f"linear: an epoch ({what}) took {seconds:.1f} s; {epochs - 1} more will take about {words}")
    bar.close()
    return heads
