"""Views of an image: crops and what is drawn for them."""

import numpy as np
import pytest
import torch

from sslkit.data import views as views_module
from sslkit.data.augment import photometric_columns
from sslkit.data.loader import DecodedImages
from sslkit.data.views import ViewMaker
from sslkit.errors import UsageError
from sslkit.recipe.sections import ViewsSection
from sslkit.recipe.validation import validated

SECTION = {"global": {"count": 2, "scale": [0.4, 1.0]}, "local": {"count": 3, "scale": [0.05, 0.4]}}


def maker(seed=0, image_size=32, patch=4, **changes) -> ViewMaker:
    return ViewMaker(validated(ViewsSection, {**SECTION, **changes}), image_size, patch, seed)


def images(count=10, size=40) -> DecodedImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return DecodedImages(pixels, np.arange(count))


def of(draws: np.ndarray, name: str) -> np.ndarray:
    """(..., P) -> (..., columns): what is drawn for an augmentation."""
    return draws[..., photometric_columns()[0][name]]


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
    assert (of(g[:, 0], "blur") > 0).all()
    assert (of(g[:, 1], "blur") == 0).all()
    assert abs((of(local, "blur") > 0).mean() - 0.5) < 0.1
    assert (of(g[:, 0], "solarize") == 0).all()
    assert (of(g[:, 1], "solarize") == 1).all()
    assert (of(g, "gray") == 0).all()
    on, bright, *_, order = np.moveaxis(of(g, "jitter"), -1, 0)
    assert (on == 1).all()
    assert 0.6 <= bright.min() < 0.65 and 1.35 < bright.max() <= 1.4
    assert set(order.astype(int).flatten()) == set(range(24))
    crops = views(images(1).pixels[0], 0, 0)[0]
    assert [tuple(c.shape) for c in crops] == [(2, 3, 32, 32), (3, 3, 12, 12)]


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
    assert drawn.dtype == np.float32 and drawn.shape == (5, photometric_columns()[1])
    np.testing.assert_allclose(drawn[:, :9], recorded, atol=1e-5)
    assert not drawn[:, 9:].any()


def test_an_operation_that_is_switched_on_moves_no_other_draw(monkeypatch):
    image, off = ramp(), maker()(ramp(), 1, 2)
    every = maker(augment=LATER)(image, 1, 2)
    assert all(torch.equal(a, b) for a, b in zip(off[0], every[0], strict=True))
    for name in ("jitter", "gray", "blur", "solarize"):
        assert all(np.array_equal(of(a, name), of(b, name)) for a, b in zip(off[1], every[1], strict=True)), name
    for name in ("noise", "cutout"):
        alone = maker(augment={name: 1.0, "rotate": 1.0})(image, 1, 2)[1]
        assert all(np.array_equal(of(a, name), of(b, name)) for a, b in zip(alone, every[1], strict=True)), name
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
        share = [(of(d, name)[..., 0] > 0).mean() for d in (g[:, 0], g[:, 1], local)]
        assert np.allclose(share, [first, second, rest], atol=0.08), name
    sigma, seed = of(g[:, 0], "noise").T
    assert 0.1 <= sigma.min() < 0.11 and 0.29 < sigma.max() <= 0.3
    assert len(np.unique(seed)) > 295 and (seed == np.floor(seed)).all() and 0.9 * 2**24 < seed.max() < 2**24
    for crops, size in ((g[:, 0], 32), (local, 12)):
        squares = of(crops, "cutout").reshape(-1, 3)
        side, top, left = squares[squares[:, 0] > 0].T
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


def test_a_whole_image_of_the_crops_size_stays_as_it_is():
    views = maker(**{"global": {"count": 2, "scale": [1, 1], "ratio": [1, 1]}}, augment={"flip": 0.0})
    image = images(1, 32).pixels[0]
    assert all(torch.equal(crop, image) for epoch in range(3) for crop in views(image, epoch, 0)[0][0])


def test_masks_follow_the_boxes_flips_and_turns_of_the_crops():
    # A smooth image, on which bicubic and bilinear weights agree, in all three channels and as the mask.
    rows, columns = np.mgrid[:97, :71]
    smooth = torch.from_numpy((127 + 60 * np.sin(rows / 15) + 60 * np.cos(columns / 11)).astype(np.uint8))
    views, seen = maker(augment={"rotate": 0.5}), []
    for epoch in range(40):
        crops = views(smooth.expand(3, -1, -1), epoch, 3)[0][0]
        mask = views.objects(smooth, epoch, 3)
        assert mask.shape == (2, 32, 32)
        assert mask.dtype == torch.uint8
        assert int((crops[:, 0].int() - mask.int()).abs().max()) <= 6
        seen.append(mask)
    assert len({c.numpy().tobytes() for c in seen}) == 40


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
