"""Width and height of JPEG, PNG and WebP files from their first bytes, before anything is decoded."""

import struct

NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a segment
NOT_A_FRAME = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning: the other 0xC. are frame headers


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels; None where the header does not tell.

    >>> header_size(bytes.fromhex("89504e470d0a1a0a0000000d494844520000001e00000014"))
    (30, 20)
    """
    try:
        if data.startswith(b"\x89PNG"):
            return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None
        if data.startswith(b"RIFF"):
            return _of_webp(data)
        return _of_jpeg(data)
    except (struct.error, IndexError):  # truncated
        return None


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in NO_LENGTH:
            at += 2
        elif marker >> 4 == 0xC and marker not in NOT_A_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _of_webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":  # two 24-bit numbers, minus one
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":  # 14 bits each, minus one, after a byte of signature
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
