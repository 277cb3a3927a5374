"""Images through a frozen encoder, onto disk.

Batches are fixed: batch b holds rows b * B to (b + 1) * B - 1 whichever process computes it, so neither the number of
workers or processes nor an interruption changes a bit. Workers decode, resize and crop to uint8; normalisation
and the encoder run on the device, one batch behind the writing.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.data.normalise import normalise, statistics
from sslkit.distributed.process_group import beat
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.errors import SslkitError
from sslkit.probes.features.resumable_arrays import PartialArrays
from sslkit.workers import leave_signals_to_parent

COMMIT_SECONDS = 5.0  # work that a killed process may lose


class UnlabelledImages(Protocol):
    """Images by number: what ``sslkit.data.shards.open_split`` returns."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> Tensor:
        """Uint8 (C, H, W)."""
        ...


class CropBatches(Dataset):
    """Batch ``b`` of a split as uint8 (B, C, size, size); an error is returned as a value.

    An exception raised in a worker would arrive with the worker's traceback in its message.
    """

    def __init__(self, images: UnlabelledImages, size: int, batch_size: int):
        self.images, self.size, self.batch_size = images, size, batch_size

    def __getitem__(self, batch: int) -> Tensor | SslkitError:
        first = batch * self.batch_size
        try:
            rows = range(first, min(first + self.batch_size, len(self.images)))
            return torch.stack([evaluation_crop(self.images.image(i), self.size) for i in rows])
        except SslkitError as error:
            return error


class Embedding(Protocol):
    """Turns a batch of pixels into rows of arrays."""

    image_size: int
    channels: int
    device: torch.device

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Uint8 (B, C, S, S) on the device -> float32 (B, ...) by name of array; always with ``cls``."""
        ...


class PixelEmbedding:
    """The pixels themselves, flattened: the baseline that an encoder must beat.

    They are normalised as for an encoder: cosines of raw pixels, all positive, would mostly compare brightness.
    """

    def __init__(self, image_size: int, device: torch.device, channels: int = 3):
        self.image_size, self.device, self.channels = image_size, device, channels

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, C, S, S) -> cls (B, C S S)."""
        return {"cls": normalise(pixels, *statistics(self.channels)).flatten(1)}


class EncoderEmbedding:
    """Features of a frozen encoder.

    Args:
        frozen: the encoder.
        last: blocks whose CLS is kept; None keeps 4, or all of fewer.

    Raises:
        SslkitError: the encoder has fewer blocks.
    """

    def __init__(self, frozen: FrozenEncoder, last: int | None):
        encoder = frozen.encoder
        depth = encoder.depth if encoder.vit else 1
        last = min(4, depth) if last is None else last
        if encoder.vit and not 1 <= last <= depth:
            raise SslkitError(f"--last-blocks {last}: {encoder.spec.arch} has {depth} blocks")
        self.frozen, self.last = frozen, last
        self.image_size, self.device, self.channels = frozen.size, frozen.device, encoder.spec.in_channels

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, C, S, S) -> cls (B, D), and of a ViT blocks (B, L, D) and patch_mean (B, D)."""
        with self.frozen.autocast():
            blocks, patch_mean = self.frozen.encoder.last_cls(self.frozen.normalise(pixels), self.last)
        found = {"cls": blocks[:, -1].float()}
        return found if patch_mean is None else {**found, "blocks": blocks.float(), "patch_mean": patch_mean.float()}


@torch.inference_mode()
def row_shapes(embedding: Embedding) -> dict[str, tuple[int, ...]]:
    """Shape of one row of each array, found by encoding one black image."""
    size = embedding.image_size
    black = torch.zeros(1, embedding.channels, size, size, dtype=torch.uint8, device=embedding.device)
    return {name: tuple(rows.shape[1:]) for name, rows in embedding(black).items()}


@torch.inference_mode()
def extract_batches(
    images: UnlabelledImages,
    embedding: Embedding,
    arrays: PartialArrays,
    batches: Sequence[int],
    workers: int = 0,
    title: str = "",
) -> None:
    """Encode some batches of a split and write them.

    Args:
        images: the split.
        embedding: what makes the rows.
        arrays: where they go.
        batches: which batches this process computes.
        workers: processes that decode; 0 decodes in this one.
        title: of the progress bar; empty shows none.

    Raises:
        SslkitError: an image cannot be read.
    """
    loader = _loader(CropBatches(images, embedding.image_size, arrays.batch_size), batches, workers, embedding.device)
    done: list[int] = []
    committed = time.monotonic()
    waiting: tuple[int, Mapping[str, Tensor], Any] | None = None
    bar = tqdm(total=arrays.rows, desc=title, unit=" images", disable=None if title else True, leave=False)
    bar.update(arrays.rows - min(arrays.rows, len(batches) * arrays.batch_size))
    for batch, pixels in zip(batches, loader, strict=True):
        if isinstance(pixels, SslkitError):
            raise pixels
        rows = embedding(pixels.to(embedding.device, non_blocking=True))
        # The copy back is queued, not waited for: the device gets the next batch before this one is written.
        ready = (batch, {k: v.to("cpu", non_blocking=True) for k, v in rows.items()}, _event(embedding.device))
        if waiting is not None:
            done.append(_write(arrays, *waiting))
        waiting = ready
        bar.update(len(pixels))
        beat(f"batch {batch}")
        if done and time.monotonic() - committed >= COMMIT_SECONDS:
            arrays.commit(done)
            done, committed = [], time.monotonic()
    if waiting is not None:
        done.append(_write(arrays, *waiting))
    arrays.commit(done)
    arrays.close()
    bar.close()


def _loader(crops: CropBatches, batches: Sequence[int], workers: int, device: torch.device) -> Iterator[Any]:
    """The given batches in order, made by worker processes."""
    with warnings.catch_warnings():
        # More workers than cores are the user's choice, and no reason for a warning.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        return iter(
            DataLoader(
                crops,
                sampler=batches,
                batch_size=None,
                num_workers=min(workers, len(batches)),
                pin_memory=device.type == "cuda",
                worker_init_fn=leave_signals_to_parent,
            )
        )


def _event(device: torch.device) -> Any:
    """An event in the device's queue after all work queued so far; None where there is no queue."""
    if device.type == "cuda":
        return torch.cuda.current_stream(device).record_event()
    if device.type == "mps":
        torch.mps.synchronize()
    return None


def _write(arrays: PartialArrays, batch: int, rows: Mapping[str, Tensor], event: Any) -> int:
    if event is not None:
        event.synchronize()
    arrays.write(batch, {name: values.numpy() for name, values in rows.items()})
    return batch
