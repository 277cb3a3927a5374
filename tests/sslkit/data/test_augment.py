"""The photometric part of whole batches: the order of the augmentations, and independence from the neighbours."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sslkit.data import augment, augmentations
from sslkit.data.augmentations import blur, cutout, gray, jitter, noise, sobel, solarize
from sslkit.data.augmentations.base import Photometric
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.views import ViewMaker
from sslkit.errors import UsageError
from sslkit.recipe import sections
from sslkit.recipe.sections import ViewsSection
from sslkit.recipe.validation import validated

OLDEST: tuple[type[Photometric], ...] = (jitter.Jitter, gray.Gray, blur.Blur, solarize.Solarize)
LATER = {"noise": (0.1, 3.0), "sobel": (1.0,), "cutout": (5.0, 2.0, 9.0)}


def row(**drawn: tuple[float, ...]) -> torch.Tensor:
    """(P,) what is drawn for one image, by augmentation."""
    columns, total = augment.photometric_columns()
    values = torch.zeros(total)
    for name, numbers in drawn.items():
        values[columns[name]] = torch.tensor(numbers)
    return values


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def drawn(count: int, **later: tuple[float, ...]) -> torch.Tensor:
    """(1, count, P): every second image with most of the oldest augmentations, the others gray."""
    colours = {"jitter": (1, 0.7, 1.2, 1.0, 0.1, 5), "blur": (0.8,), "solarize": (1,)}
    return torch.stack([row(**(colours if i % 2 else {"gray": (1,)}), **later) for i in range(count)])[None]


def test_the_order_of_the_augmentations():
    names = ["flip", "jitter", "gray", "blur", "solarize", "rotate", "noise", "sobel", "cutout"]
    assert list(augment.augmentations()) == names
    keys = [key for key in sections.augment_section().model_fields if key in names]
    assert keys == names


def test_nothing_drawn_is_normalisation_alone():
    crops = pixels(2, 2)
    out = augment.photometric(crops, row().expand(2, 2, -1))
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(out, (crops / 255 - mean) / std, rtol=1e-5, atol=1e-5)


def test_the_oldest_augmentations_run_in_dinos_order():
    crops, draws = pixels(1, 6), drawn(6)
    expected, (columns, _) = crops[0] * (1 / 255), augment.photometric_columns()
    for kind in OLDEST:
        kind.apply(expected, draws[0, :, columns[kind.__name__.lower()]].numpy())
    assert torch.equal(augment.photometric(crops, draws)[0], augment.normalise(expected))


def test_noise_then_sobel_then_normalise_then_cutout():
    crops = pixels(1, 2)
    out = augment.photometric(crops, row(**LATER).expand(1, 2, -1))
    expected = crops[0] / 255
    noise.Noise.apply(expected, np.array([LATER["noise"]] * 2, np.float32))
    sobel.Sobel.apply(expected, np.ones((2, 1), np.float32))
    expected = augment.normalise(expected)
    expected[:, :, 2:7, 9:14] = 0  # the mean after normalisation, with no noise and no edge in it
    torch.testing.assert_close(out[0], expected, rtol=0, atol=1e-5)
    assert not out[0, :, :, 2:7, 9:14].any()


def test_an_image_does_not_depend_on_its_neighbours():
    crops = pixels(2, 4)
    draws = torch.stack(
        [
            torch.stack([row(jitter=(1, 0.7, 1, 1, 0.2, o), blur=(s,), gray=(g,), solarize=(g,)) for g in (0, 1, 0, 1)])
            for o, s in ((3, 0.0), (17, 1.3))
        ]
    )
    whole = augment.photometric(crops, draws)
    for view in range(2):
        for sample in range(4):
            alone = augment.photometric(crops[view, sample][None, None], draws[view, sample][None, None])
            torch.testing.assert_close(whole[view, sample], alone[0, 0], rtol=0, atol=1e-6)


def test_autocast_does_not_touch_pixels():
    crops, draws = pixels(1, 2), row(blur=(1.5,), jitter=(1, 1, 1.2, 1, 0, 0)).expand(1, 2, -1)
    expected = augment.photometric(crops, draws)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.photometric(crops, draws), expected)


def test_images_that_the_later_augmentations_leave_alone_keep_every_bit(monkeypatch):
    crops, draws = pixels(1, 6), drawn(6)
    expected = augment.photometric(crops, draws)[0]
    touched = draws.clone()
    touched[:, 2] = drawn(6, **LATER)[:, 2]
    others = [0, 1, 3, 4, 5]
    out = augment.photometric(crops, touched)[0]
    assert torch.equal(out[others], expected[others])
    assert not torch.equal(out[2], expected[2])
    for module, name in ((noise, "noise_"), (sobel, "sobel_"), (cutout, "cutout_")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("called for nothing"))
    assert torch.equal(augment.photometric(crops, draws)[0], expected)


def test_noise_sobel_and_cutout_follow_the_image_not_its_place_in_the_batch():
    crops = pixels(1, 6)
    draws = torch.cat(
        [drawn(6, noise=(0.1, 3.0 + i), sobel=(1.0,), cutout=(5, 2.0 + i, 9))[:, i : i + 1] for i in range(6)], 1
    )
    out = augment.photometric(crops, draws)
    order = [4, 0, 5, 2]
    again = augment.photometric(crops[:, order], draws[:, order])
    torch.testing.assert_close(again, out[:, order], rtol=0, atol=1e-6)
    alike = augment.photometric(crops[:, :1].expand(1, 6, 3, 16, 16), row(**LATER).expand(1, 6, -1))
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike), rtol=0, atol=1e-6)  # one seed, one noise


INVERT = '''
from sslkit.data.augmentations.base import Photometric, change
from sslkit.recipe.sections import Probability


class Invert(Photometric):
    """Inverts all colours."""

    order = 45

    class Config(Photometric.Config):
        """A probability."""

        invert: Probability = 0.0

    @staticmethod
    def apply(images, draws):
        """Invert some images."""
        change(images, draws[:, 0] > 0, lambda x: x.neg_().add_(1))
'''


def forget_augmentations() -> None:
    for remembered in (augment.augmentations, augment.photometric_columns, sections.augment_section):
        remembered.cache_clear()


@pytest.fixture
def dropped_in(tmp_path: Path, monkeypatch) -> Iterator[None]:
    """A folder with `invert.py`, as if it were in `augmentations/`."""
    (tmp_path / "invert.py").write_text(INVERT)
    monkeypatch.setattr(augmentations, "__path__", [*augmentations.__path__, str(tmp_path)])
    forget_augmentations()
    yield
    monkeypatch.undo()
    forget_augmentations()


def test_a_file_dropped_in_is_an_augmentation(dropped_in):
    image = pixels(1)[0]
    section = validated(ViewsSection, {"augment": {"invert": [1.0, 0.0, 0.0], "cutout": 1.0}})
    assert list(section.model_dump()["augment"])[7:9] == ["invert", "rotate"]
    crops, (draws,) = ViewMaker(section, 16, 4, 0)(image, 0, 0)
    out = augment.photometric(crops[0][:, None], torch.from_numpy(draws)[:, None])
    plain = draws.copy()
    plain[:, augment.photometric_columns()[0]["invert"]] = 0
    assert (draws != plain).any(1).tolist() == [True, False]
    without = augment.photometric(crops[0][:, None], torch.from_numpy(plain)[:, None])
    assert torch.equal(out[1], without[1])
    assert not torch.equal(out[0], without[0])
    with pytest.raises(
        UsageError, match=r"unknown key 'views\.augment\.inverse'.*did you mean 'views\.augment\.invert'"
    ):
        validated(ViewsSection, {"augment": {"inverse": 1.0}})


def test_a_file_dropped_in_changes_no_other_draw(request):
    image, keys = pixels(1)[0], {"augment": {"noise": 1.0, "cutout": 1.0}}
    before_columns = augment.photometric_columns()[0]
    (before,) = ViewMaker(validated(ViewsSection, keys), 16, 4, 0)(image, 2, 3)[1]
    request.getfixturevalue("dropped_in")
    keys["augment"]["invert"] = 1.0
    (after,) = ViewMaker(validated(ViewsSection, keys), 16, 4, 0)(image, 2, 3)[1]
    columns = augment.photometric_columns()[0]
    for name, where in before_columns.items():
        assert np.array_equal(before[:, where], after[:, columns[name]]), name
