"""Pictures inside a page: data URIs, scaled down and compressed until all of them fit."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BUDGET = 9_000_000  # bytes of all pictures of a page; a third more in base64
# (largest width in pixels, quality of WebP, bytes up to which a PNG is kept), tried in turn until the pictures fit.
STEPS = ((1600, 80, 60_000), (1000, 70, 0), (640, 60, 0))

# Pictures with at most this many colours are maps (cividis has 256, plus those of a frame and of a pair's seam); maps,
# and photos of at most this width in pixels, are kept exactly.
MAP_COLOURS, SMALL = 260, 64
QUALITY = 88  # of other photos, as JPEG


@dataclass(frozen=True)
class Inline:
    """A picture inside a page: its data URI, and its size in pixels."""

    uri: str
    width: int
    height: int


def data_uri(kind: str, content: bytes) -> str:
    """A picture's bytes as a data URI.

    >>> data_uri("png", b"abc")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: Image.Image) -> str:
    """The data URI of a picture: PNG for maps and small pictures, JPEG for photos, which have more colours."""
    if picture.width <= SMALL or picture.getcolors(MAP_COLOURS):
        return data_uri("png", _written(picture, "PNG", optimize=True))
    return data_uri("jpeg", _written(picture, "JPEG", quality=QUALITY, subsampling=0))


def inline(paths: Sequence[Path], budget: int = BUDGET) -> dict[Path, Inline]:
    """Pictures by path, together within ``budget`` bytes.

    Files that are not pictures are left out, and so are the last ones if not all fit even at the smallest size.
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
    """Kind, bytes and size in pixels of the smaller of PNG and WebP; None if the file is not a picture."""
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
