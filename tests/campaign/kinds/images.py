"""Photos in class folders, one or two of them damaged or no regular file, through ``prepare``."""

import hashlib
import io
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from campaign.damage import damage_file, odd_file
from campaign.kind import Damage, Kind
from PIL import Image

SAVED: dict[str, dict[str, Any]] = {
    "png": {}, "jpg": {"quality": 90}, "webp": {"lossless": True}, "gif": {}, "bmp": {}, "avif": {}, "ppm": {},
    "tiff": {"compression": "tiff_lzw"},
}  # fmt: skip
FORMATS = {"jpg": "JPEG"}
CHECKED = (".png",)  # formats with a checksum of their pixels


def picture(number: int, suffix: str) -> bytes:
    """A photo-like picture of 40 x 32 pixels."""
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.integers(0, 256, (5, 4, 3), np.uint8)).resize((40, 32), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 1 + number % 8  # orientation
    buffer = io.BytesIO()
    options = {"exif": exif} if suffix in ("jpg", "png", "webp") else {}
    coarse.save(buffer, FORMATS.get(suffix, suffix.upper()), **SAVED[suffix], **options)
    return buffer.getvalue()


class Images(Kind):
    """Every format; PNG more often, as its damage can always be told."""

    def build(self, folder: Path) -> None:
        """Two classes with a picture of each format."""
        for number, suffix in enumerate(SAVED):
            for label in ("cat", "dog"):
                path = folder / "input" / label / f"{number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(2 * number + (label == "dog"), suffix))

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Mostly bytes."""
        files = sorted((folder / "input").rglob("*.*"))
        path = draw.choice(files if draw.random() < 0.7 else [p for p in files if p.suffix in CHECKED])
        if draw.random() < 0.15:
            words = odd_file(path, draw)
            return Damage(words, not words.endswith("a folder"))  # an empty folder is nothing
        return Damage(damage_file(path, draw), path.suffix in CHECKED)

    def commands(self, folder: Path) -> list[list[str]]:
        """Prepare."""
        return [["prepare", "run", "--source", "folder", "--root", "input", "--workers", "0", "--val-fraction", "0"]]

    def result(self, folder: Path) -> Any:
        """Digests of the pixels by name."""
        from sslkit.data.shards import open_split

        split = open_split(folder / "run" / "data", "train")
        pixels = (split.image(i).contiguous().numpy().tobytes() for i in range(len(split)))
        return {split.own_name(i): hashlib.sha256(p).hexdigest() for i, p in enumerate(pixels)}
