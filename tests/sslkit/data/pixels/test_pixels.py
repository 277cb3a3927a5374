"""Ranges, channels and sizes: from the values in a file to uint8."""

import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sslkit.data import images
from sslkit.data.pixels.arrays import channel_axis
from sslkit.data.pixels.header_size import header_size
from sslkit.data.pixels.rules import PixelRules
from sslkit.data.pixels.value_range import automatic, merged, value_facts
from sslkit.errors import SslkitError

RNG = np.random.default_rng(0)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


SMALL = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8))
KINDS = {
    "jpeg": saved(SMALL, "JPEG"),
    "progressive jpeg": saved(SMALL, "JPEG", progressive=True, exif=b"Exif\0\0" + bytes(100)),
    "png": saved(SMALL, "PNG"),
    "lossy webp": saved(SMALL, "WEBP"),
    "lossless webp": saved(SMALL, "WEBP", lossless=True),
    "extended webp": saved(SMALL.convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "bmp": saved(SMALL, "BMP"),
    "gif": saved(SMALL, "GIF"),
    "tiff": saved(SMALL, "TIFF"),
    "avif": saved(SMALL, "AVIF"),
    "npy": npy(np.zeros((20, 30, 3), np.uint8)),
    "tiff of 5 channels": tiff(np.zeros((20, 30, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
}


@pytest.mark.parametrize("name", KINDS)
def test_one_size_limit_for_every_format(name):
    channels = 5 if "5" in name else 3
    assert images.decode(KINDS[name], PixelRules(channels, max_pixels=600)).shape == (channels, 20, 30)
    assert images.decode(KINDS[name], PixelRules(channels, max_pixels=None)).shape == (channels, 20, 30)
    with pytest.raises(SslkitError, match=r"^too large: 30 x 20 pixels; --max-pixels 600 reads it$"):
        images.decode(KINDS[name], PixelRules(channels, max_pixels=599))


@pytest.mark.parametrize("name", [name for name in KINDS if name.split()[-1] in ("jpeg", "png", "webp")])
def test_the_size_is_in_the_header(name):
    assert header_size(KINDS[name]) == (30, 20)
    assert header_size(KINDS[name][:11]) is None


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    whole = saved(SMALL, "PNG")
    bomb = whole[:16] + (60000).to_bytes(4, "big") * 2 + whole[24:]
    with pytest.raises(SslkitError, match="too large: 60000 x 60000 pixels; --max-pixels 3600000000"):
        images.decode(bomb)


WIDE = np.array([[0, 1, 2048], [4095, 4096, 65535]])


@pytest.mark.parametrize("data", [
    saved(Image.fromarray(WIDE.astype(np.uint16)), "PNG"), saved(Image.fromarray(WIDE.astype(np.uint16)), "TIFF"),
    saved(Image.fromarray(WIDE.astype(np.uint16)), "PPM"), npy(WIDE.astype("<u2")), npy(WIDE.astype(">u2")),
    npy(WIDE.astype(">i4")), npy(WIDE.astype(np.float64)), tiff(WIDE.astype(np.float32)), tiff(WIDE.astype(np.int32)),
    tiff(WIDE.astype(">u2"), byteorder=">"), npy(np.asfortranarray(WIDE.astype(np.uint16))),
])  # fmt: skip
def test_a_range_means_the_same_for_every_type_of_value(data):
    image = images.decode(data, PixelRules(1, span=(0, 4095)))
    assert image.tolist() == [[[0, 0, 128], [255, 255, 255]]]


def test_negative_values_are_not_cut_at_zero():
    hounsfield = np.array([[-1024, -512, 0, 1024, 3071]], np.int16)
    image = images.decode(tiff(hounsfield), PixelRules(1, span=(-1024, 1024)))
    assert image.tolist() == [[[0, 64, 128, 255, 255]]]
    for dtype in (np.int16, np.int32, np.float32):
        with pytest.raises(SslkitError, match=r"\(-1024 to 3071\), whose range is unknown: --range auto"):
            images.decode(tiff(hounsfield.astype(dtype)))


def test_a_range_leaves_8_bits_alone():
    for name in ("jpeg", "png", "bmp", "npy"):
        assert torch.equal(images.decode(KINDS[name]), images.decode(KINDS[name], PixelRules(span=(3, 9))))


def test_nan_is_black_and_infinity_is_white():
    image = images.decode(npy(np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)), PixelRules(1, span=(0, 1)))
    assert image.tolist() == [[[0, 255, 0, 128]]]


@pytest.mark.parametrize(("array", "words"), [
    (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"), (np.zeros(7, np.uint8), r"shape \(7,\)"),
    (np.zeros((2, 3, 4, 5), np.uint8), r"shape \(2, 3, 4, 5\), which is no image"), (np.uint8(3), r"shape \(\)"),
    (np.zeros((4, 4), np.complex64), "values of type <c8"), (np.array([["a"]]), "values of type <U1"),
    (np.array([[object()]]), "Python objects"), (np.zeros((4, 4), [("r", "u1"), ("g", "u1")]), "not of numbers"),
])  # fmt: skip
def test_an_array_that_is_no_image_is_named(array, words):
    with pytest.raises(SslkitError, match=words):
        images.decode(npy(array))


def test_a_truncated_array_is_damaged():
    for keep in (8, 60, 200):
        with pytest.raises(SslkitError, match="damaged NumPy file"):
            images.decode(KINDS["npy"][:keep])


@pytest.mark.parametrize(("shape", "channels", "axis"), [
    ((40, 30), 3, None), ((40, 30, 13), 3, 2), ((13, 40, 30), 3, 0), ((32, 32, 200), 3, 2), ((200, 32, 32), 3, 0),
    ((4, 64, 48), 4, 0), ((32, 40, 64), 64, 2), ((3, 3, 3), 3, 2), ((13, 13, 13), 3, 2),
])  # fmt: skip
def test_which_axis_holds_the_channels(shape, channels, axis):
    assert channel_axis(shape, channels) == axis


BANDS = RNG.integers(0, 65536, (20, 30, 13), dtype=np.uint16)


@pytest.mark.parametrize("data", [
    npy(BANDS), npy(np.moveaxis(BANDS, 2, 0)), tiff(BANDS, photometric="minisblack", planarconfig="contig"),
    tiff(np.moveaxis(BANDS, 2, 0), photometric="minisblack", planarconfig="separate"),
    tiff(BANDS, photometric="minisblack", planarconfig="contig", compression="lzw", predictor=True, bigtiff=True),
])  # fmt: skip
def test_thirteen_channels_come_out_in_their_order(data):
    image = images.decode(data, PixelRules(13))
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.rint(BANDS / 257).astype(np.uint8))
    with pytest.raises(SslkitError, match="has 13 channels, not 3"):
        images.decode(data)


def test_sixteen_bit_colours_in_a_tiff_keep_their_bits():
    dark = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint16)
    image = images.decode(tiff(dark, photometric="rgb"), PixelRules(span=(0, 255)))
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), dark)


def test_a_fourth_band_is_no_alpha():
    bands = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    data = tiff(bands, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(images.decode(data, PixelRules(4)).permute(1, 2, 0).numpy(), bands)
    with pytest.raises(SslkitError, match="has 4 channels, not 3"):
        images.decode(data)
    alpha = tiff(bands, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(images.decode(alpha).permute(1, 2, 0).numpy(), bands[..., :3])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_kept_when_asked_for(kind):
    pixels = RNG.integers(1, 256, (20, 30, 4), dtype=np.uint8)
    data = saved(Image.fromarray(pixels), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(images.decode(data, PixelRules(4)).permute(1, 2, 0).numpy(), pixels)
    jpeg = images.decode(KINDS["jpeg"], PixelRules(4))
    assert torch.equal(jpeg[:3], images.decode(KINDS["jpeg"]))
    assert bool((jpeg[3] == 255).all())


def test_gray_is_pillows_luma_and_gray_stays_what_it_is():
    expected = np.asarray(SMALL.convert("L"))
    np.testing.assert_array_equal(images.decode(KINDS["png"], PixelRules(1))[0].numpy(), expected)
    grey = saved(SMALL.convert("L"), "PNG")
    np.testing.assert_array_equal(images.decode(grey, PixelRules(1))[0].numpy(), expected)


def chosen(*arrays):
    facts = [value_facts(torch.from_numpy(array)[None]) for array in arrays]
    return automatic(merged(one for one in facts if one), len(arrays))


def spread_over(low, high, dtype):
    return np.linspace(low, high, 2500).reshape(50, 50).astype(dtype)


@pytest.mark.parametrize(("array", "span"), [
    (spread_over(3, 4090, np.uint16), (0, 4095)), (spread_over(0, 900, np.uint16), (0, 1023)),
    (spread_over(0, 60000, np.uint16), (0, 65535)), (spread_over(0, 255, np.int32), (0, 255)),
    (spread_over(0, 0.8, np.float32), (0, 1)), (spread_over(-1024, 3071, np.int16), (-1023, 3067)),
    (spread_over(-5, 5, np.float64), (-4.99, 4.99)),
])  # fmt: skip
def test_the_automatic_range(array, span):
    np.testing.assert_allclose(np.array(chosen(array).span), span, atol=2e-2 if array.dtype.kind == "f" else 3)


def test_a_hot_pixel_does_not_darken_everything():
    array = spread_over(100, 3000, np.uint16)
    array[0, 0] = 65535
    low, high = np.array(chosen(array).span)
    assert 100 <= low < 110
    assert 2990 < high <= 3000


def test_the_automatic_range_is_one_for_all_images():
    assert chosen(spread_over(0, 900, np.uint16), spread_over(0, 15000, np.uint16)).span == (0, 16383)
    assert chosen(np.full((4, 4), 7, np.uint8)).span is None
    assert chosen(np.full((4, 4), -7.0)).span == (-7, -6)
    with pytest.raises(SslkitError, match="several kinds"):
        chosen(spread_over(0, 900, np.uint16), spread_over(0, 1, np.float32))
