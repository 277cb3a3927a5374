"""Micro-batches: made by any number of workers, from images in memory or not, with the masks of their objects."""

import numpy as np
import pytest
import torch

from sslkit.data.loader import DecodedImages, ViewBatches, batches, in_memory
from sslkit.data.order import Order
from sslkit.data.views import ViewMaker
from sslkit.errors import SslkitError
from sslkit.recipe.sections import ViewsSection
from sslkit.recipe.validation import validated

SECTION = {"global": {"count": 2, "scale": [0.2, 1.0]}, "local": {"count": 1}, "augment": {"rotate": 0.5}}


def maker(**changes) -> ViewMaker:
    return ViewMaker(validated(ViewsSection, {**SECTION, **changes}), 32, 4, seed=0)


def discs(count: int, height: int = 48, width: int = 40) -> torch.Tensor:
    """(count, H, W) uint8 masks, 255 within a disc that lies elsewhere in each."""
    rows, columns = np.mgrid[:height, :width]
    places = np.random.default_rng(0).uniform(8, (height - 8, width - 8), (count, 2))
    return torch.from_numpy(
        np.stack([((rows - r) ** 2 + (columns - c) ** 2 < 81).astype(np.uint8) * 255 for r, c in places])
    )


def masked(count: int = 12) -> DecodedImages:
    """Images whose red channel is the mask of their object."""
    masks = discs(count)
    pixels = torch.stack([masks, torch.full_like(masks, 90), 255 - masks], 1)
    return DecodedImages(pixels, np.arange(count), masks)


def plain(count: int) -> DecodedImages:
    """Images without masks; the label is the image's number."""
    pixels = torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return DecodedImages(pixels, np.arange(count))


class Mixed:
    """Images of which only some have a mask."""

    def __init__(self, masks: list[torch.Tensor | None]):
        self.masks, self.labels = masks, np.zeros(len(masks), np.int64)

    def __len__(self):
        return len(self.masks)

    def image(self, i):
        return torch.full((3, 48, 40), i, dtype=torch.uint8)

    def object_mask(self, i):
        return self.masks[i]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    source, views, order = plain(20), maker(), Order(20, 5)
    made = list(batches(source, views, order, 2, 6, workers, pin=False))
    assert len(made) == 4
    for batch, (epoch, samples) in zip(made, order.micro_batches(2, 6), strict=True):
        expected = ViewBatches(source, views)[epoch, samples]
        assert torch.equal(batch.samples, expected.samples)
        assert torch.equal(batch.labels, expected.samples)
        assert all(torch.equal(a, b) for a, b in zip(batch.crops, expected.crops, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(batch.photometric, expected.photometric, strict=True))


def test_images_of_one_size_are_kept_and_others_are_read_each_time():
    source = plain(5)
    kept = in_memory(source)
    assert kept is not source
    assert torch.equal(kept.image(3), source.image(3))

    class Mixed(DecodedImages):
        def image(self, i):
            return super().image(i)[:, : 20 + i]

    mixed = Mixed(source.pixels, source.labels)
    assert in_memory(mixed) is mixed


def test_a_batch_carries_the_masks_of_its_global_crops():
    source, views = masked(), maker()
    samples = np.array([5, 1, 9])
    batch = ViewBatches(source, views, objects=True)[4, samples]
    assert batch.objects is not None and batch.objects.shape == (2, 3, 32, 32) and batch.objects.dtype == torch.uint8
    # Red is the mask, up to the ringing of bicubic weights at edges.
    red = batch.crops[0][:, :, 0].int()
    assert float((red - batch.objects.int()).abs().float().mean()) < 5
    assert int((red - batch.objects.int()).abs().max()) < 60
    assert int((red.flip(1) - batch.objects.int()).abs().max()) == 255  # and not that of another image
    shares = batch.objects.float().mean() / 255
    assert 0.05 < float(shares) < 0.5
    # An image's mask is its own, whatever its place in the batch.
    alone = ViewBatches(source, views, objects=True)[4, samples[1:2]].objects
    assert alone is not None and torch.equal(alone[:, 0], batch.objects[:, 1])
    # Asking changes nothing else.
    without = ViewBatches(source, views)[4, samples]
    assert without.objects is None
    assert all(torch.equal(a, b) for a, b in zip(batch.crops, without.crops, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(batch.photometric, without.photometric, strict=True))


def test_there_are_none_where_the_data_has_none():
    source = DecodedImages(masked().pixels, np.arange(12))
    assert source.object_mask(0) is None
    assert ViewBatches(source, maker(), objects=True)[0, np.arange(2)].objects is None


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_change_no_mask(workers):
    source, views, order = in_memory(masked(), objects=True), maker(), Order(12, 4)
    made = list(batches(source, views, order, 1, 4, workers, pin=False, objects=True))
    assert len(made) == 3
    for batch, (epoch, samples) in zip(made, order.micro_batches(1, 4), strict=True):
        expected = torch.stack([views.objects(discs(12)[s], epoch, int(s)) for s in samples], 1)
        assert batch.objects is not None and torch.equal(batch.objects, expected)


def test_masks_are_kept_in_memory_when_asked_for_and_found_when_not():
    source = masked()
    kept, lazy = in_memory(source, objects=True), in_memory(source)
    assert isinstance(kept, DecodedImages) and isinstance(lazy, DecodedImages)
    assert kept.masks is not None and kept.masks.is_shared() and torch.equal(kept.masks, discs(12))
    assert lazy.masks is None
    assert torch.equal(kept.object_mask(7), discs(12)[7]) and torch.equal(lazy.object_mask(7), discs(12)[7])
    assert in_memory(Mixed([None, None]), objects=True).object_mask(1) is None


def test_an_image_without_a_mask_among_others_has_no_object():
    source = Mixed([discs(1)[0], None])
    for images in (source, in_memory(source, objects=True), in_memory(source)):
        objects = ViewBatches(images, maker(), objects=True)[0, np.arange(2)].objects
        assert objects is not None and objects[:, 0].any() and not objects[:, 1].any()


def test_a_mask_of_another_size_than_its_image_is_refused_when_it_is_needed():
    source = Mixed([discs(1)[0], discs(1, 48, 41)[0]])
    with pytest.raises(SslkitError, match="mask of sample 1 has 48 x 41 pixels, its image 48 x 40"):
        ViewBatches(source, maker(), objects=True)[0, np.arange(2)]
    with pytest.raises(SslkitError, match="mask of sample 1"):
        in_memory(source, objects=True)
    assert ViewBatches(in_memory(source), maker())[0, np.arange(2)].objects is None
