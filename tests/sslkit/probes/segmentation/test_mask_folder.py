"""Masks on disk: their kinds, their pairs, and mistakes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslkit.data.pixels.rules import PixelRules
from sslkit.errors import SslkitError
from sslkit.probes.segmentation import mask_folder
from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet
from sslkit.probes.segmentation.annotations.mask_files import read_pixels
from sslkit.probes.segmentation.annotations.pairs import pair
from sslkit.probes.segmentation.annotations.values import MaskOptions
from sslkit.probes.segmentation.mask_folder import MaskFolder
from sslkit.probes.segmentation.photos import spread


def put(folder: Path, name: str, pixels: np.ndarray, palette: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels.astype(np.uint8))
    if palette:
        picture = picture.convert("P")
        picture.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
    picture.save(folder / name)


def write_pairs(root: Path, *masks: np.ndarray, palette: bool = False) -> tuple[Path, Path]:
    for i, mask in enumerate(masks):
        put(root / "images", f"p{i}.jpg", np.full((*mask.shape, 3), 40 * i))
        put(root / "masks", f"p{i}.png", mask, palette)
    return root / "images", root / "masks"


def open_folder(images: Path, masks: Path, count: int | None = None, **said) -> MaskFolder:
    return mask_folder.open_folder(MaskedSet(pair(images, masks)), MaskOptions(**said), count)


BLANK = np.zeros((6, 8), np.uint8)


def with_values(*values: int) -> np.ndarray:
    mask = BLANK.copy()
    mask[0, : len(values)] = values
    return mask


@pytest.mark.parametrize("white", [1, 255])
def test_masks_of_two_values_are_binary(tmp_path, white):
    photos = open_folder(*write_pairs(tmp_path, with_values(white), BLANK))
    assert photos.binary
    assert list(photos.classes) == ["background", "object"]
    assert photos.objects == [1]
    image, labels = photos.read(0)
    assert image.shape == (3, 6, 8)
    assert np.array_equal(labels, with_values(1))
    assert labels.dtype == np.int64


@pytest.mark.parametrize("palette", [False, True])
def test_masks_of_classes_have_void_and_a_background(tmp_path, palette):
    masks = [with_values(5, 255), with_values(12)]
    photos = open_folder(*write_pairs(tmp_path, *masks, palette=palette))
    assert not photos.binary
    assert list(photos.classes) == ["0", "5", "12"]
    assert photos.objects == [1, 2]
    assert photos.read(0)[1][0, :3].tolist() == [1, -1, 0]
    assert photos.read(1)[1][0, :2].tolist() == [2, 0]
    other = open_folder(tmp_path / "images", tmp_path / "masks", void="5")
    assert list(other.classes) == ["0", "12", "255"]
    assert other.read(0)[1][0, :3].tolist() == [-1, 2, 0]
    assert other.digest == photos.digest


def test_noisy_masks_are_cut_in_the_middle_when_asked(tmp_path):
    folders = write_pairs(tmp_path, with_values(3, 120, 131, 252))
    assert not open_folder(*folders).binary
    noisy = open_folder(*folders, binary=True)
    assert noisy.binary
    assert noisy.read(0)[1][0, :5].tolist() == [0, 0, 1, 1, 0]


def test_pairs_go_by_name_and_the_rest_is_left_out(tmp_path):
    images, masks = write_pairs(tmp_path, *[with_values(255)] * 5)
    put(images / "deep", "p9.png", np.zeros((6, 8, 3)))
    put(masks / "deep", "p9.png", with_values(255))
    (masks / "p2.png").unlink()
    (images / "p4.jpg").unlink()
    photos = open_folder(images, masks)
    assert list(photos.names) == ["deep/p9", "p0", "p1", "p3"]
    assert photos.remarks == ["1 photo has no mask and is left out: p2", "1 mask has no photo and is left out: p4.png"]
    assert list(open_folder(images, masks, count=2).names) == ["deep/p9", "p3"]
    assert spread(3, 5) == [0, 1, 2]


def test_what_is_wrong_with_masks_is_said(tmp_path):
    images, masks = write_pairs(tmp_path / "a", with_values(255))
    put(masks, "p0.png", np.full((6, 9), 255))
    for look in (lambda photos: photos.read(0), lambda photos: photos.check()):
        with pytest.raises(SslkitError, match=r"p0\.png has 6 x 9 pixels, its image 6 x 8"):
            look(open_folder(images, masks))
    turned = Image.new("RGB", (6, 9))  # a camera held upright: its EXIF says how to turn the picture
    turned.getexif()[0x0112] = 6
    turned.save(images / "p0.jpg", exif=turned.getexif())
    open_folder(images, masks).check()
    assert open_folder(images, masks).read(0)[0].shape == (3, 6, 9)
    put(images, "p0.jpg", np.zeros((6, 8, 3)))
    put(masks, "p0.png", np.dstack([BLANK, BLANK + 9, BLANK]))
    assert open_folder(images, masks).binary  # one colour on black
    put(masks, "p0.png", np.dstack([with_values(9)] * 3))  # grey, saved as colour
    assert np.array_equal(read_pixels(masks / "p0.png")[0], with_values(9))
    put(masks, "p0.png", BLANK)
    with pytest.raises(SslkitError, match="has an object"):
        open_folder(images, masks)
    (masks / "p0.png").write_bytes(b"no picture")
    with pytest.raises(SslkitError, match="cannot be read as a mask"):
        open_folder(images, masks)
    (masks / "p0.png").rename(masks / "q0.png")
    with pytest.raises(SslkitError, match=r"no photo in .* has a mask of the same name .*p0.jpg and q0.png"):
        open_folder(images, masks)
    with pytest.raises(SslkitError, match="--masks requires one"):
        open_folder(images, tmp_path / "nowhere")


def test_photos_and_masks_have_the_size_limit_of_all_images(tmp_path):
    images, masks = write_pairs(tmp_path, with_values(1), BLANK)
    found = MaskedSet(pair(images, masks))
    size = BLANK.size
    with pytest.raises(SslkitError, match=rf"p0.png is too large: .*; --max-pixels {size} reads it"):
        mask_folder.open_folder(found, rules=PixelRules(max_pixels=size - 1))
    opened = mask_folder.open_folder(found, rules=PixelRules(max_pixels=size))
    assert opened.read(0)[0].shape[0] == 3
    with pytest.raises(SslkitError, match="too large"):
        replace(opened, rules=PixelRules(max_pixels=size - 1)).read(0)
