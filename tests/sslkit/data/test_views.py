"""Crops, their draws, and the order of the batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkit.data import views as views_module
from sslkit.data.loader import DecodedImages, ViewBatches, batches, in_memory
from sslkit.data.order import Order
from sslkit.data.views import PHOTOMETRIC, SLOTS, ViewMaker, boxes_from, cut
from sslkit.errors import UsageError
from sslkit.recipe.schema import validated
from sslkit.recipe.sections import ViewsSection

SECTION = {"global": {"count": 2, "scale": [0.4, 1.0]}, "local": {"count": 3, "scale": [0.05, 0.4]}}


def maker(seed=0, image_size=32, patch=4, **changes) -> ViewMaker:
    return ViewMaker(validated(ViewsSection, {**SECTION, **changes}), image_size, patch, seed)


def images(count=10, size=40) -> DecodedImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return DecodedImages(pixels, np.arange(count))


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    seed=st.integers(0, 2**32),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
)
@settings(max_examples=200, deadline=None)
def test_boxes_lie_in_the_image(height, width, seed, low, high):
    u = np.random.default_rng(seed).random((4, SLOTS))
    scale = np.tile(sorted((low, high)), (4, 1))
    top, left, h, w = boxes_from(u, height, width, scale, np.tile((3 / 4, 4 / 3), (4, 1))).T
    assert (top >= 0).all() and (left >= 0).all() and (h > 0).all() and (w > 0).all()
    assert (top + h <= height).all() and (left + w <= width).all()


def test_areas_and_aspects_are_those_asked_for():
    u = np.random.default_rng(0).random((4000, SLOTS))
    _, _, h, w = boxes_from(u, 400, 400, np.tile((0.2, 0.5), (4000, 1)), np.tile((0.75, 4 / 3), (4000, 1))).T
    area, aspect = h * w / 400**2, w / h
    assert area.min() > 0.195 and area.max() < 0.505 and abs(area.mean() - 0.35) < 0.01
    assert aspect.min() > 0.74 and aspect.max() < 1.35 and abs(np.log(aspect).mean()) < 0.02


def test_an_image_too_long_for_any_box_is_cut_in_its_middle():
    u = np.full((1, SLOTS), 0.999)
    box = boxes_from(u, 10, 1000, np.array([[1.0, 1.0]]), np.array([[3 / 4, 4 / 3]]))[0]
    assert box.tolist() == [0, (1000 - 13) // 2, 10, 13]


def test_a_view_is_a_function_of_seed_epoch_and_sample():
    image = images(1).pixels[0]
    views = maker()
    first = views(image, 3, 7)
    again = maker()(image, 3, 7)
    assert all(torch.equal(a, b) for a, b in zip(first[0], again[0], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    for other in (maker(seed=1)(image, 3, 7), views(image, 4, 7), views(image, 3, 8)):
        assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0][0], first[0][0][1])
    # A view more at the end changes no other view.
    more = maker(local={"count": 5, "scale": [0.05, 0.4]})(image, 3, 7)
    assert torch.equal(first[0][1], more[0][1][:3])


def test_shapes_and_probabilities_for_each_view():
    views = maker(augment={"blur": [1.0, 0.0, 0.5], "solarize": [0.0, 1.0, 0.0], "gray": 0.0, "jitter": 1.0})
    draws = [views(images(1).pixels[0], epoch, 0)[1] for epoch in range(200)]
    g, local = (np.stack([d[group] for d in draws]) for group in (0, 1))
    column = {name: i for i, name in enumerate(PHOTOMETRIC)}
    assert (g[:, 0, column["blur"]] > 0).all() and (g[:, 1, column["blur"]] == 0).all()
    assert abs((local[..., column["blur"]] > 0).mean() - 0.5) < 0.1
    assert (g[:, 0, column["solarize"]] == 0).all() and (g[:, 1, column["solarize"]] == 1).all()
    assert (g[..., column["gray"]] == 0).all()
    bright = g[..., column["brightness"]]
    assert 0.6 <= bright.min() < 0.65 and 1.35 < bright.max() <= 1.4
    assert set(g[..., column["order"]].astype(int).flatten()) == set(range(24))
    crops = views(images(1).pixels[0], 0, 0)[0]
    assert [tuple(c.shape) for c in crops] == [(2, 3, 32, 32), (3, 3, 12, 12)]


COLUMN = {name: i for i, name in enumerate(PHOTOMETRIC)}
LATER = {"noise": 1.0, "sobel": 1.0, "cutout": 1.0}


def ramp(height=200, width=240) -> torch.Tensor:
    """(3, H, W) uint8: the column in red, the row in green."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)]).to(torch.uint8)


def test_a_seed_makes_the_views_that_it_has_always_made():
    # Recorded before rotation, noise, Sobel and cutout were there; an operation more must not move these.
    crops, draws = maker(seed=5)(ramp(), 3, 7)
    edges = [[(c[0, :, 0], c[0, :, -1], c[1, 0], c[1, -1]) for c in group] for group in crops]
    means = [[[float(line.float().mean()) for line in lines] for lines in group] for group in edges]
    assert np.allclose(means[0], [[231, 54, 4, 192], [56, 205, 5, 186]], atol=1)
    assert np.allclose(means[1], [[219, 99, 12, 126], [220, 113, 66, 162], [209, 72, 33, 138]], atol=1)
    recorded = [
        [0, 1.14844, 1.23456, 1.08975, 0.02345, 9, 0, 0.17037, 0],
        [1, 1.25705, 0.75272, 0.97375, 0.00660, 22, 0, 0, 0],
        [1, 0.96216, 0.93491, 0.89780, 0.01737, 13, 0, 0, 0],
        [1, 1.17366, 1.25897, 0.95169, 0.04875, 1, 1, 0, 0],
        [1, 0.77948, 1.35665, 1.05470, 0.09335, 5, 1, 0, 0],
    ]
    drawn = np.concatenate(draws)
    assert drawn.dtype == np.float32 and drawn.shape == (5, len(PHOTOMETRIC))
    np.testing.assert_allclose(drawn[:, :9], recorded, atol=1e-5)
    assert not drawn[:, 9:].any()


def test_an_operation_that_is_switched_on_moves_no_other_draw(monkeypatch):
    image, off = ramp(), maker()(ramp(), 1, 2)
    every = maker(augment=LATER)(image, 1, 2)
    assert all(torch.equal(a, b) for a, b in zip(off[0], every[0], strict=True))
    assert all(np.array_equal(a[:, :9], b[:, :9]) for a, b in zip(off[1], every[1], strict=True))
    for name, columns in {"noise": ["noise", "noise_seed"], "cutout": ["cutout", "cutout_top", "cutout_left"]}.items():
        alone, at = maker(augment={name: 1.0, "rotate": 1.0})(image, 1, 2)[1], [COLUMN[c] for c in columns]
        assert all(np.array_equal(a[:, at], b[:, at]) for a, b in zip(alone, every[1], strict=True))
    # And what is off is not even drawn.
    streams, generator = [], views_module.rng.generator
    monkeypatch.setattr(views_module.rng, "generator", lambda *key: streams.append(key[1]) or generator(*key))
    maker()(image, 1, 2)
    assert streams == ["views"]
    maker(augment={**LATER, "rotate": 0.5})(image, 1, 2)
    assert len(set(streams)) == 5 and len(streams) == 6  # each operation draws once, from a stream of its own


def test_what_is_drawn_for_noise_sobel_and_cutout():
    settings = {"noise": [1.0, 0.0, 0.5], "sobel": [0.0, 1.0, 0.25], "cutout": [0.5, 0.0, 1.0]}
    ranges = {"noise_sigma": [0.1, 0.3], "cutout_area": [0.1, 0.4]}
    views, image = maker(augment={**settings, **ranges}), ramp(20, 20)
    draws = [views(image, epoch, 0)[1] for epoch in range(300)]
    g, local = (np.stack([d[group] for d in draws]) for group in (0, 1))
    for name, (first, second, rest) in settings.items():
        share = [(d[..., COLUMN[name]] > 0).mean() for d in (g[:, 0], g[:, 1], local)]
        assert np.allclose(share, [first, second, rest], atol=0.08), name
    sigma, seed = g[:, 0, COLUMN["noise"]], g[:, 0, COLUMN["noise_seed"]]
    assert 0.1 <= sigma.min() < 0.11 and 0.29 < sigma.max() <= 0.3
    assert len(np.unique(seed)) > 295 and (seed == np.floor(seed)).all() and 0.9 * 2**24 < seed.max() < 2**24
    for crops, size in ((g[:, 0], 32), (local, 12)):
        side, top, left = (crops[..., COLUMN[c]][crops[..., COLUMN["cutout"]] > 0] for c in PHOTOMETRIC[-3:])
        assert side.min() == round(0.1**0.5 * size) and side.max() == round(0.4**0.5 * size)
        for corner in (top, left):
            room = size - side
            assert corner.min() == 0 and (corner <= room).all() and (corner == room).any()
            assert abs((corner / room).mean() - 0.5) < 0.08
        assert abs(np.corrcoef(top / (size - side), left / (size - side))[0, 1]) < 0.2


def test_rotation_turns_the_crop_by_one_of_three_right_angles():
    image, straight, turned = ramp(), maker(augment={"rotate": 0.0}), maker(augment={"rotate": [1.0, 0.0, 0.5]})
    turns = []
    for epoch in range(150):
        before, after = straight(image, epoch, 4)[0], turned(image, epoch, 4)[0]
        assert torch.equal(before[0][1], after[0][1])
        pairs = [(before[0][0], after[0][0]), *zip(before[1], after[1], strict=True)]
        turns += [[k for k in range(4) if np.array_equal(np.rot90(b, k, (1, 2)), a)] for b, a in pairs]
    assert all(len(found) == 1 for found in turns)
    (first, *local) = np.array(turns).reshape(150, 4).T
    shares = [np.bincount(t, minlength=4) / len(t) for t in (first, np.concatenate(local))]
    assert np.allclose(shares[0], [0, 1 / 3, 1 / 3, 1 / 3], atol=0.12) and shares[0][0] == 0
    assert np.allclose(shares[1], [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.08)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 60), (61, 40), (100, 101), (101, 100), (1, 9)])
def test_a_crop_of_the_whole_area_is_the_square_in_the_middle(height, width):
    side = min(height, width)
    box = [(height - side) // 2, (width - side) // 2, side, side]
    for seed in range(20):
        u = np.random.default_rng(seed).random((2, SLOTS))
        boxes = boxes_from(u, height, width, np.ones((2, 2)), np.ones((2, 2)))
        assert boxes.tolist() == [box, box]


def test_a_whole_image_of_the_crops_size_stays_as_it_is():
    views = maker(**{"global": {"count": 2, "scale": [1, 1], "ratio": [1, 1]}}, augment={"flip": 0.0})
    image = images(1, 32).pixels[0]
    assert all(torch.equal(crop, image) for epoch in range(3) for crop in views(image, epoch, 0)[0][0])


def test_a_flipped_cut_is_the_mirror_image():
    image = images(1).pixels[0]
    assert torch.equal(cut(image, (2, 3, 20, 18), True, 16), cut(image, (2, 3, 20, 18), False, 16).flip(-1))
    assert torch.equal(cut(image, (2, 3, 16, 16), False, 16), image[:, 2:18, 3:19])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local": {"count": 1, "size": 15}}, "patch size 4 does not divide the 15 pixels of a crop"),
        ({"global": {"count": 0}}, "views.global.count"),
        ({"global": {"count": 2, "scale": [0.5, 0.2]}}, "scale"),
        ({"augment": {"blur": [1.0, 0.1]}}, "views.augment.blur lists 2 probabilities"),
        ({"augment": {"cutout": [1.0, 0.1]}}, "views.augment.cutout lists 2 probabilities"),
        ({"augment": {"cutout_area": [0.2, 1.1]}}, "views.augment.cutout_area"),
        ({"augment": {"noise_sigma": [0.2, 0.1]}}, "views.augment.noise_sigma"),
    ],
)
def test_views_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        maker(**changes)


@given(
    samples=st.integers(16, 200),
    world=st.sampled_from([1, 2, 4]),
    accumulate=st.sampled_from([1, 2]),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_the_ranks_together_see_what_one_process_sees(samples, world, accumulate, seed):
    whole = [batch for _, batch in Order(samples, 16, seed=seed).micro_batches(0, 2 * (samples // 16))]
    parts = [
        list(Order(samples, 16, accumulate, rank, world, seed).micro_batches(0, 2 * (samples // 16)))
        for rank in range(world)
    ]
    for step, batch in enumerate(whole):
        mine = [parts[r][step * accumulate + a][1] for r in range(world) for a in range(accumulate)]
        assert np.array_equal(np.concatenate(mine), batch)
    epoch = np.concatenate(whole[: samples // 16])
    assert len(set(epoch.tolist())) == len(epoch)


def test_the_order_starts_anywhere_and_changes_each_epoch():
    order = Order(64, 16)
    every = list(order.micro_batches(0, 12))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(order.micro_batches(7, 12), every[7:], strict=True))
    assert not np.array_equal(every[0][1], every[4][1]) and [epoch for epoch, _ in every] == [s // 4 for s in range(12)]


@pytest.mark.parametrize(("batch", "world", "message"), [(128, 1, "exceeds the 64"), (15, 2, "does not divide")])
def test_batches_that_cannot_be_are_refused(batch, world, message):
    with pytest.raises(UsageError, match=message):
        Order(64, batch, world=world)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    source, views, order = images(20), maker(), Order(20, 5)
    made = list(batches(source, views, order, 2, 6, workers, pin=False))
    assert len(made) == 4
    for batch, (epoch, samples) in zip(made, order.micro_batches(2, 6), strict=True):
        expected = ViewBatches(source, views)[epoch, samples]
        assert torch.equal(batch.samples, expected.samples) and torch.equal(batch.labels, expected.samples)
        assert all(torch.equal(a, b) for a, b in zip(batch.crops, expected.crops, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(batch.photometric, expected.photometric, strict=True))


def test_images_of_one_size_are_kept_and_others_are_read_each_time():
    source = images(5)
    kept = in_memory(source)
    assert kept is not source and torch.equal(kept.image(3), source.image(3))

    class Mixed(DecodedImages):
        def image(self, i):
            return super().image(i)[:, : 20 + i]

    mixed = Mixed(source.pixels, source.labels)
    assert in_memory(mixed) is mixed
