"""The masks of objects: read, kept, cut beside the crops, and counted patch by patch."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sslkit.data import images as codec
from sslkit.data.loader import DecodedImages, ViewBatches, batches, in_memory
from sslkit.data.order import Order
from sslkit.data.shards import Record, Split, write_shard
from sslkit.data.views import Batch, ViewMaker, patch_coverage
from sslkit.errors import SslkitError
from sslkit.recipe.schema import validated
from sslkit.recipe.sections import ViewsSection

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


def test_masks_follow_the_boxes_flips_and_turns_of_the_crops():
    # A smooth image, on which bicubic and bilinear weights agree, in all three channels and as the mask.
    rows, columns = np.mgrid[:97, :71]
    smooth = torch.from_numpy((127 + 60 * np.sin(rows / 15) + 60 * np.cos(columns / 11)).astype(np.uint8))
    views, seen = maker(), []
    for epoch in range(40):
        crops = views(smooth.expand(3, -1, -1), epoch, 3)[0][0]
        cut = views.objects(smooth, epoch, 3)
        assert cut.shape == (2, 32, 32) and cut.dtype == torch.uint8
        assert int((crops[:, 0].int() - cut.int()).abs().max()) <= 6
        seen.append(cut)
    assert len({c.numpy().tobytes() for c in seen}) == 40


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
def test_workers_change_nothing(workers):
    source, views, order = in_memory(masked(), objects=True), maker(), Order(12, 4)
    made = list(batches(source, views, order, 1, 4, workers, pin=False, objects=True))
    assert len(made) == 3
    for batch, (epoch, samples) in zip(made, order.micro_batches(1, 4), strict=True):
        expected = torch.stack([views.objects(discs(12)[s], epoch, int(s)) for s in samples], 1)
        assert batch.objects is not None and torch.equal(batch.objects, expected)


def test_masks_go_where_the_crops_go(monkeypatch):
    source = masked()
    batch = ViewBatches(source, maker(), objects=True)[0, np.arange(2)]
    there = batch.to(torch.device("meta"))
    assert there.objects is not None and there.objects.device.type == there.crops[0].device.type == "meta"
    assert there.samples.device.type == there.photometric[0].device.type == "cpu"
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    assert batch.pin_memory().objects is batch.objects and any(p is batch.objects for p in pinned)
    plain = Batch(batch.samples, batch.labels, batch.crops, batch.photometric)
    assert plain.objects is plain.pin_memory().objects is plain.to(torch.device("meta")).objects is None


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


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_masks_in_shards_are_read_whatever_their_white_is(tmp_path):
    disc = discs(1)[0].numpy()
    palette = Image.fromarray(disc // 255).convert("P")
    palette.putpalette([0, 0, 0, 0, 128, 0])  # the object is green
    stored = {
        "black and white": Image.fromarray(disc),
        "0 and 1": Image.fromarray(disc // 255),
        "one bit": Image.fromarray(disc > 0),
        "palette": palette,
        "empty": Image.fromarray(np.zeros_like(disc)),
    }
    photo = codec.encode_png(np.zeros((48, 40, 3), np.uint8))
    records = [Record(f"{i}", 0, {"png": photo, "mask.png": encoded(mask)}) for i, mask in enumerate(stored.values())]
    write_shard(tmp_path / "train-000000.tar", [*records, Record("none", 0, {"png": photo})], [])
    split = Split(tmp_path, "train", ["thing"], ["train-000000.tar"])
    for i, name in enumerate(stored):
        mask = split.object_mask(i)
        assert mask is not None and mask.dtype == torch.uint8
        assert np.array_equal(mask.numpy(), np.zeros_like(disc) if name == "empty" else disc), name
    assert split.object_mask(len(stored)) is None
    objects = ViewBatches(in_memory(split, objects=True), maker(), objects=True)[0, np.arange(6)].objects
    assert objects is not None and objects[:, :4].any() and not objects[:, 4:].any()


def test_patch_coverage_is_the_mean_over_each_patch():
    objects = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    objects[1, 2, :4, 4:8], objects[1, 2, 8:, 8:] = 255, 0
    coverage = patch_coverage(objects, 4)
    assert coverage.shape == (6, 9) and coverage.dtype == torch.float32
    for view, sample, row, column in np.ndindex(2, 3, 3, 3):
        patch = objects[view, sample, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = sum(patch.flatten().tolist()) / 16 / 255
        assert abs(float(coverage[view * 3 + sample, row * 3 + column]) - expected) < 1e-6
    assert coverage[5, 1] == 1 and coverage[5, 8] == 0
