"""Pictures inside a page: as data URIs, drawn smaller and packed tighter until all of them fit."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BUDGET = 9_000_000  # bytes of all pictures of a page; base64 makes a third more of them
# (longest width in pixels, quality of WebP, bytes up to which a PNG stays as sharp as it is), tried in turn until the
# pictures fit.
STEPS = ((1600, 80, 60_000), (1000, 70, 0), (640, 60, 0))

# A picture of a page of many: what has so many colours at most is a map (cividis has 256; a frame and the seam of a
# pair come on top) and what is so small a photo to be seen pixel by pixel; both are kept to the bit.
MAP_COLOURS, SMALL = 260, 64
QUALITY = 88  # of other photos, as JPEG


@dataclass(frozen=True)
class Inline:
    """A picture as a page holds it.

    Attributes:
        uri: ``data:`` and all of its bytes.
        width: pixels.
        height: pixels.
    """

    uri: str
    width: int
    height: int


def data_uri(kind: str, content: bytes) -> str:
    """A picture's bytes as the address of an image.

    >>> data_uri("png", b"abc")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: Image.Image) -> str:
    """Maps and small pictures exactly, as PNG; what has more colours than a map is a photo, as JPEG."""
    if picture.width <= SMALL or picture.getcolors(MAP_COLOURS):
        return data_uri("png", _written(picture, "PNG", optimize=True))
    return data_uri("jpeg", _written(picture, "JPEG", quality=QUALITY, subsampling=0))


def inline(paths: Sequence[Path], budget: int = BUDGET) -> dict[Path, Inline]:
    """Pictures by path, together within ``budget`` bytes where that can be.

    A file that is no picture is not among them; nor are, in the order given, those for which there is no room even
    at the smallest size.
    """
    packed: dict[Path, tuple[str, bytes, tuple[int, int]]] = {}
    for width, quality, light in STEPS:
        packed = {path: found for path in dict.fromkeys(paths) if (found := _pack(path, width, quality, light))}
        if sum(len(content) for _, content, _ in packed.values()) <= budget:
            break
    kept: dict[Path, Inline] = {}
    used = 0
    for path, (kind, content, size) in packed.items():
        if used + len(content) <= budget:
            used += len(content)
            kept[path] = Inline(data_uri(kind, content), *size)
    return kept


def _pack(path: Path, most: int, quality: int, light: int) -> tuple[str, bytes, tuple[int, int]] | None:
    """Kind, bytes and size in pixels of the smaller of PNG and WebP; None when the file is no picture."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if picture.width > most:
        height = max(round(picture.height * most / picture.width), 1)
        picture = picture.resize((most, height), Image.Resampling.LANCZOS)
    exact = _written(picture, "PNG", optimize=True)
    if len(exact) <= light:
        return "png", exact, picture.size
    close = _written(picture, "WEBP", quality=quality, method=4)
    return ("webp", close, picture.size) if len(close) < len(exact) else ("png", exact, picture.size)


def _written(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
