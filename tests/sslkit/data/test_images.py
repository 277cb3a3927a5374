import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from sslkit.data import images
from sslkit.errors import InterruptedRun, SslkitError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decoded(data):
    image = images.decode(data)
    assert image.dtype == torch.uint8 and image.shape[0] == 3
    return image.permute(1, 2, 0).numpy()


FORMATS = {
    "jpeg": encoded(PHOTO, "JPEG"),
    "gray jpeg": encoded(PHOTO.convert("L"), "JPEG"),
    "cmyk jpeg": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "png": encoded(PHOTO, "PNG"),
    "rgba png": encoded(Image.fromarray(RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)), "PNG"),
    "palette png": encoded(PHOTO.convert("P"), "PNG"),
    "transparent palette png": encoded(PHOTO.convert("P"), "PNG", transparency=bytes(range(256))),
    "gray alpha png": encoded(PHOTO.convert("LA"), "PNG"),
    "1-bit png": encoded(PHOTO.convert("1"), "PNG"),
    "webp": encoded(PHOTO, "WEBP"),
    "rgba webp": encoded(PHOTO.convert("RGBA"), "WEBP", lossless=True),
    "animated webp": encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)]),
    "bmp": encoded(PHOTO, "BMP"),
    "gif": encoded(PHOTO, "GIF"),
    "animated gif": encoded(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)]),
    "tiff": encoded(PHOTO, "TIFF"),
    "cmyk tiff": encoded(PHOTO.convert("CMYK"), "TIFF"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_out_as_pillow_shows_it(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, in the expectation
        expected = by_pillow(FORMATS[name])
    np.testing.assert_array_equal(decoded(FORMATS[name]), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind):
    wide = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    wide[0, :3] = 0, 255, 65535
    expected = np.rint(wide.astype(float) * 255 / 65535).astype(np.uint8)
    image = decoded(encoded(Image.fromarray(wide), kind))
    np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    # Four flat quadrants survive JPEG; where they end up tells the rotation.
    block = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    upright = {
        1: block,
        2: block[:, ::-1],
        3: block[::-1, ::-1],
        4: block[::-1],
        5: block.T,
        6: block.T[:, ::-1],
        7: block.T[::-1, ::-1],
        8: block.T[::-1],
    }[orientation]
    image = decoded(encoded(Image.fromarray(block).convert("RGB"), kind, exif=exif))[..., 0]
    assert image.shape == upright.shape
    np.testing.assert_allclose(image[4::8, 4::8].astype(int), upright[4::8, 4::8], atol=6)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "bmp", "gif", "cmyk jpeg"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.9])
def test_a_truncated_file_is_an_error_of_one_line(name, keep):
    data = FORMATS[name]
    with pytest.raises(SslkitError) as caught:
        images.decode(data[: int(len(data) * keep)])
    assert "\n" not in str(caught.value) and " at 0x" not in str(caught.value) and str(caught.value)


def test_no_image_is_an_error():
    with pytest.raises(SslkitError, match="not an image in a known format"):
        images.decode(b"these are words and no image")


def test_extension_is_read_from_the_bytes():
    found = {name: images.extension(data) for name, data in FORMATS.items()}
    assert (found["jpeg"], found["png"], found["webp"], found["bmp"], found["gif"]) == ("jpg", "png", "webp", "", "")


@pytest.mark.parametrize(("size", "side", "expected"), [
    ((300, 400), 150, (150, 200)), ((400, 300), 150, (200, 150)), ((100, 90), 128, (100, 90)), ((2, 900), 1, (1, 450)),
])  # fmt: skip
def test_shrink_brings_the_shorter_side_down_and_never_enlarges(size, side, expected):
    image = torch.full((3, *size), 77, dtype=torch.uint8)
    small = images.shrink(image, images.shrunk_size(*size, side))
    assert small.shape == (3, *expected) and small.dtype == torch.uint8
    assert (small == 77).all()


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("last", [False, True])
def test_every_channel_is_shrunk_within_a_level_of_pillows(channels, last):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 40, 60), np.uint8)
    pixels[:, :20] = np.linspace(0, 255, 60)  # noise, and a ramp
    theirs = [np.array(Image.fromarray(plane).resize((21, 14), Image.Resampling.BICUBIC)) for plane in pixels]
    image = torch.from_numpy(pixels)
    image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1) if last else image
    difference = images.shrink(image, (14, 21)).int() - torch.from_numpy(np.stack(theirs)).int()
    assert difference.abs().max() <= 1
    assert difference.float().abs().mean() < 0.05


def large_photo(mode="RGB"):
    """640 x 480, with edges and gradients."""
    y, x = np.mgrid[:480, :640]
    red = 127 + 120 * np.sin(x / 40) * np.cos(y / 30)
    pixels = np.stack([red, x * 255 / 640, np.where((x // 80 + y // 80) % 2, 200, 60)], 2)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def oriented(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("orientation", "expected"), [(1, (60, 80)), (3, (60, 80)), (6, (80, 60)), (7, (80, 60))])
def test_a_far_larger_jpeg_is_decoded_at_a_reduced_size(mode, orientation, expected):
    data = encoded(large_photo(mode), "JPEG", quality=95, exif=oriented(orientation))
    values, size = images.read_to_shrink(data, images.DEFAULT, 60)
    full = images.decode(data)
    assert size == expected
    assert values.shape[1:] == (2 * size[0], 2 * size[1])
    difference = images.shrink(images.finish(values, images.DEFAULT), size).int() - images.shrink(full, size).int()
    assert difference.abs().float().mean() < 1


@pytest.mark.parametrize(("kind", "mode", "side", "options"), [
    ("JPEG", "RGB", 121, {}), ("JPEG", "CMYK", 30, {}), ("PNG", "RGB", 30, {}), ("JPEG", "RGB", None, {}),
    ("JPEG", "RGB", 30, {"xmp": b"<x:xmpmeta/>"}),
])  # fmt: skip
def test_other_images_are_decoded_in_full(kind, mode, side, options):
    data = encoded(large_photo(mode), kind, **options)
    values, size = images.read_to_shrink(data, images.DEFAULT, side)
    assert torch.equal(values, images.read(data))
    assert size == images.shrunk_size(480, 640, side)


def test_a_truncated_large_jpeg_is_the_same_error_at_a_reduced_size():
    data = encoded(large_photo(), "JPEG")
    with pytest.raises(SslkitError) as full:
        images.read(data[: len(data) // 2])
    with pytest.raises(SslkitError) as reduced:
        images.read_to_shrink(data[: len(data) // 2], images.DEFAULT, 30)
    assert str(reduced.value) == str(full.value)


def test_an_interruption_while_decoding_is_not_taken_for_damage(monkeypatch):
    def interrupted(*_):
        raise InterruptedRun("terminated", 15)

    monkeypatch.setattr(images, "open_picture", interrupted)
    with pytest.raises(InterruptedRun):
        images.read_to_shrink(encoded(large_photo(), "JPEG"), images.DEFAULT, 30)


def test_png_loses_nothing_and_jpeg_little():
    smooth = torch.arange(64, dtype=torch.uint8).expand(3, 64, 64).contiguous()
    assert torch.equal(images.decode(images.encode_png(smooth)), smooth)
    assert (images.decode(images.encode_jpeg(smooth)).int() - smooth.int()).abs().max() <= 4


def test_a_mask_keeps_its_values_when_resized():
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 255
    small = np.asarray(Image.open(io.BytesIO(images.resize_mask(images.encode_png(mask), 20, 30))))
    assert small.shape == (20, 30) and set(np.unique(small)) == {0, 255}
