"""PNG, checked before libpng sees it.

torchvision's PNG decoder ends the process, instead of raising an error, at whatever libpng calls an error: a wrong
checksum, an unknown filter, an image shorter than declared. So everything that libpng would object to is found here
(https://www.w3.org/TR/png-3/), and what is found good is handed on with its pixels inflated already: the decoder then
only copies where it would have inflated, so that checking costs little time and cannot change a pixel.
"""

import struct
import zlib
from collections.abc import Iterator

from sslkit.errors import SslkitError

Bytes = bytes | memoryview
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Colour type -> channels, and the bit depths that it may have.
COLOURS = {0: (1, (1, 2, 4, 8, 16)), 2: (3, (8, 16)), 3: (1, (1, 2, 4, 8)), 4: (2, (8, 16)), 6: (4, (8, 16))}
GRAY, TRUE_COLOUR, PALETTE = 0, 2, 3
LARGEST_SIDE = 1_000_000  # pixels; libpng refuses more
LAST_FILTER = 4
LARGEST_BLOCK = (1 << 16) - 1  # bytes that a stored block holds
MOST_EXTRA = 1 << 16  # bytes behind the pixels that are inflated to find the stream's checksum
# Adam7: first column and row of each pass, and the steps to the next.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Chunks of which no pixel depends here, and whose damage costs nothing.
WITHOUT_PIXELS = {
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"tIME",
    b"pHYs",
    b"bKGD",
    b"hIST",
    b"sPLT",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
}
END = b"\0\0\0\0IEND\xaeB`\x82"


def checked(data: bytes) -> bytearray:
    """The same image as a PNG that libpng decodes without an error, its pixels stored uncompressed.

    Only what pixels depend on is kept: header, palette, transparency, orientation (eXIf) and pixels. Of an animation
    that is the default image.

    Raises:
        SslkitError: the file is truncated, a checksum is wrong, or header and pixels do not fit each other.
    """
    chunks = _chunks(data)
    width, height, depth, colour, *methods = _header(chunks.pop(b"IHDR", [b""])[0])
    if not 0 < width <= LARGEST_SIDE or not 0 < height <= LARGEST_SIDE:
        raise SslkitError(f"damaged PNG: its header declares {width} x {height} pixels")
    channels, depths = COLOURS.get(colour, (0, ()))
    if depth not in depths or methods[:2] != [0, 0] or methods[2] not in (0, 1):
        raise SslkitError(f"damaged PNG: its header declares colour type {colour} of {depth} bits")
    rows = _rows(width, height, channels * depth, interlaced=methods[2] == 1)
    pixels, checksum = _inflated(chunks.pop(b"IDAT", []), sum(count * length for count, length in rows))
    start = 0
    for count, length in rows:
        if count and max(pixels[start : start + count * length : length]) > LAST_FILTER:
            raise SslkitError("damaged PNG: a row has an unknown filter")
        start += count * length
    kept = {name: found[0] for name, found in chunks.items()}
    if colour == PALETTE and not _is_palette(kept.get(b"PLTE", b"")):
        raise SslkitError("damaged PNG: it has no palette")
    if colour != PALETTE:
        kept.pop(b"PLTE", None)  # a suggestion for displays of few colours
    if not _is_transparency(kept.get(b"tRNS", b""), colour, len(kept.get(b"PLTE", b"")) // 3):
        kept.pop(b"tRNS", None)  # as libpng does
    before = [part for name in (b"PLTE", b"tRNS", b"eXIf") if name in kept for part in _chunk(name, kept[name])]
    image = _chunk(b"IDAT", *_stored(pixels), checksum)
    return bytearray().join([SIGNATURE, *_chunk(b"IHDR", data[16:29]), *before, *image, END])


def _chunks(data: bytes) -> dict[bytes, list[memoryview]]:
    """The contents of the chunks that pixels depend on; the first IHDR is the file's first chunk, or there is none."""
    view, found, place = memoryview(data), {}, len(SIGNATURE)
    while place + 12 <= len(data):
        size, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 8 + size
        if end + 4 > len(data):
            raise SslkitError("damaged PNG: it is truncated")
        if name == b"IEND" or (place == len(SIGNATURE)) != (name == b"IHDR"):
            break
        if name in (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf"):
            if zlib.crc32(view[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                raise SslkitError(f"damaged PNG: the checksum of {name.decode()} is wrong")
            if name == b"IDAT" or b"IDAT" not in found:  # what follows the pixels comes too late for them
                found.setdefault(name, []).append(view[place + 8 : end])
        elif not name.isalpha() or not name[0] & 32:  # an unknown chunk that must be understood
            raise SslkitError("damaged PNG: it holds an unknown critical chunk")
        elif name not in WITHOUT_PIXELS and zlib.crc32(view[place + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            raise SslkitError("damaged PNG: the checksum of a chunk is wrong")  # its name may be what is damaged
        place = end + 4
    return found


def _header(content: Bytes) -> tuple[int, ...]:
    """Width, height, bit depth, colour type, and the methods of compression, filtering and interlacing."""
    if len(content) != 13:
        raise SslkitError("damaged PNG: it has no header")
    return struct.unpack(">IIBBBBB", content)


def _rows(width: int, height: int, bits: int, interlaced: bool) -> list[tuple[int, int]]:
    """(number of rows, bytes of one with its filter byte) of every pass; a single pass unless interlaced."""
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes]
    return [(rows, 1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0]


def _inflated(parts: list[memoryview], size: int) -> tuple[bytes, bytes]:
    """The pixels of the IDAT chunks, ``size`` bytes and never more, whatever the stream would give; their Adler-32."""
    packed, inflate = parts[0] if len(parts) == 1 else b"".join(parts), zlib.decompressobj()
    try:
        pixels = inflate.decompress(packed, size)
        more = b"" if inflate.eof else inflate.decompress(inflate.unconsumed_tail, MOST_EXTRA)  # and the checksum
    except zlib.error as error:
        reason = str(error).rpartition(": ")[2]
        raise SslkitError(f"damaged PNG: its pixels do not decompress ({reason})") from error
    if len(pixels) < size or not (inflate.eof or len(more) == MOST_EXTRA):
        raise SslkitError(f"damaged PNG: it holds {len(pixels)} of {size} bytes of pixels")
    if more:
        return pixels, zlib.adler32(pixels).to_bytes(4, "big")
    end = len(packed) - len(inflate.unused_data)
    return pixels, bytes(packed[end - 4 : end])  # which zlib has compared


def _stored(pixels: bytes) -> Iterator[Bytes]:
    """A zlib stream of the pixels without compression, except its checksum; ``zlib.compress`` would copy them twice."""
    view = memoryview(pixels)
    yield b"\x78\x01"
    for start in range(0, len(view), LARGEST_BLOCK):
        block = view[start : start + LARGEST_BLOCK]
        is_last = start + len(block) == len(view)
        yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF)
        yield block


def _is_palette(content: Bytes) -> bool:
    return 0 < len(content) <= 3 * 256 and len(content) % 3 == 0


def _is_transparency(content: Bytes, colour: int, entries: int) -> bool:
    if colour == PALETTE:
        return 0 < len(content) <= entries
    return len(content) == {GRAY: 2, TRUE_COLOUR: 6}.get(colour)


def _chunk(name: bytes, *content: Bytes) -> list[Bytes]:
    """The parts of a chunk."""
    checksum = zlib.crc32(name)
    for part in content:
        checksum = zlib.crc32(part, checksum)
    return [struct.pack(">I", sum(map(len, content))), name, *content, struct.pack(">I", checksum)]
