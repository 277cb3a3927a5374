import itertools
import struct
import zlib

import numpy as np
import pytest
import torch

from sslkit.data import images
from sslkit.data.decoding import png
from sslkit.data.pixels.conversion import to_8_bits
from sslkit.errors import SslkitError

SIZE = (21, 13)  # width and height: no pass of an interlaced image is full
KINDS = [
    (colour, depth, way)
    for colour, (_, depths) in png.COLOURS.items()
    for depth, way in itertools.product(depths, (0, 1))
]


def chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def header(colour: int = 2, depth: int = 8, interlaced: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced))


def pixels(colour: int = 2, depth: int = 8, interlaced: int = 0, top_filter: int = 4) -> bytes:
    """Random filtered rows of an image; every index of a palette image is in its palette."""
    draw = np.random.default_rng(colour * 100 + depth + interlaced)
    bits, rows = png.COLOURS[colour][0] * depth, []
    for count, length in png._rows(*SIZE, bits, bool(interlaced)):
        for _ in range(count):
            rows += [bytes([draw.integers(top_filter + 1)]), draw.bytes(length - 1)]
    return b"".join(rows)


def build(*chunks: bytes) -> bytes:
    return png.SIGNATURE + b"".join(chunks) + png.END


def an_image(**kind: int) -> bytes:
    return build(header(**kind), chunk(b"IDAT", zlib.compress(pixels(**kind))))


@pytest.mark.parametrize(("colour", "depth", "interlaced"), KINDS)
def test_a_sound_png_has_the_pixels_that_torchvision_gives_it(colour: int, depth: int, interlaced: int) -> None:
    """Of every kind, with a palette and transparency, its pixels in three chunks, and texts around them."""
    palette = [chunk(b"PLTE", np.random.default_rng(0).bytes(3 << depth))] if colour == 3 else []
    clear = [chunk(b"tRNS", {0: b"\0\1", 2: bytes(6), 3: b"\x80\0"}[colour])] if colour < 4 else []
    packed, text = zlib.compress(pixels(colour, depth, interlaced)), chunk(b"tEXt", b"Comment\0text")
    parts = [chunk(b"IDAT", part) for part in (packed[:20], packed[20:21], packed[21:])]
    data = build(header(colour, depth, interlaced), text, *palette, *clear, *parts, text)
    given = torch.ops.image.decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), images.RGB, True)
    expected = given if given.dtype == torch.uint8 else to_8_bits(given, None)
    torch.testing.assert_close(images.decode(data), expected, rtol=0, atol=0)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


GOOD = an_image()
PACKED = zlib.compress(pixels())
# Each ended the process in torchvision's decoder.
DAMAGED = {
    "a bit of the pixels": (flipped(GOOD, 60), "checksum of IDAT"),
    "a bit of the header": (flipped(GOOD, 19), "checksum of IHDR"),
    "an unknown filter": (build(header(), chunk(b"IDAT", zlib.compress(b"\x05" + pixels()[1:]))), "unknown filter"),
    "a bit of the stream, with a right CRC": (build(header(), chunk(b"IDAT", flipped(PACKED, 40))), "damaged PNG"),
    "the stream's checksum": (build(header(), chunk(b"IDAT", flipped(PACKED, len(PACKED) - 1))), "data check"),
    "more rows declared": (build(header(size=(21, 14)), chunk(b"IDAT", PACKED)), "832 of 896 bytes"),
    "a billion columns": (build(header(size=(1 << 30, 13)), chunk(b"IDAT", PACKED)), "declares 1073741824 x 13"),
    "a million columns and rows": (build(header(size=(10**6, 10**6)), chunk(b"IDAT", PACKED)), "too large"),
    "no width": (build(header(size=(0, 13)), chunk(b"IDAT", PACKED)), "0 x 13 pixels"),
    "three bits": (build(header(depth=3), chunk(b"IDAT", PACKED)), "of 3 bits"),
    "colour type 9": (build(header(colour=9), chunk(b"IDAT", PACKED)), "colour type 9"),
    "no palette": (an_image(colour=3), "no palette"),
    "a cut stream": (build(header(), chunk(b"IDAT", PACKED[:-9])), "bytes of pixels"),
    "a cut file": (GOOD[:90], "truncated"),
    "no pixels": (build(header()), "0 of 832 bytes"),
    "no header": (build(chunk(b"IDAT", PACKED)), "no header"),
    "nothing": (png.SIGNATURE, "no header"),
    "an unknown critical chunk": (build(header(), chunk(b"NEWW", b""), chunk(b"IDAT", PACKED)), "unknown critical"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_png_is_refused_in_words(damage: str) -> None:
    data, words = DAMAGED[damage]
    with pytest.raises(SslkitError, match=words):
        images.decode(data)


@pytest.mark.parametrize(
    "odd",
    [
        build(header(), chunk(b"tEXt", b"a\0b")[:-1] + b"?", chunk(b"IDAT", PACKED)),
        build(header(), chunk(b"tRNS", b"odd"), chunk(b"IDAT", PACKED)),
        build(header(), chunk(b"PLTE", b"odd!"), chunk(b"IDAT", PACKED)),
        build(header(), chunk(b"IDAT", zlib.compress(pixels() + bytes(1000)))),
        build(header(), chunk(b"IDAT", PACKED + b"behind the stream")),
        GOOD[: -len(png.END)],
        GOOD + b"behind the file",
    ],
    ids=["a text's checksum", "transparency", "a palette", "more pixels", "behind the pixels", "no end", "more bytes"],
)
def test_what_pixels_do_not_depend_on_may_be_damaged(odd: bytes) -> None:
    torch.testing.assert_close(images.decode(odd), images.decode(GOOD), rtol=0, atol=0)


def test_a_bomb_is_inflated_no_further_than_its_header_says() -> None:
    bomb = build(header(), chunk(b"IDAT", zlib.compress(pixels() + bytes(50_000_000))))
    assert images.decode(bomb).shape == (3, 13, 21)


def test_a_damaged_name_of_a_chunk_is_found() -> None:
    """A flipped bit turns the orientation into a chunk that nobody knows, and the pixels would lie on their side."""
    data = build(header(), chunk(b"eXIf", b"II*\0orientation"), chunk(b"IDAT", zlib.compress(pixels())))
    png.checked(data)
    with pytest.raises(SslkitError, match="damaged PNG: the checksum of a chunk is wrong"):
        png.checked(data.replace(b"eXIf", b"eXMf"))
