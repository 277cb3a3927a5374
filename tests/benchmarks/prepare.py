"""``prepare --size 128`` of photos in one process: over a plain PIL loop, and over the time of its decoder and encoder.

python tests/benchmarks/prepare.py --images ../shared/data/ecssd-200.tar
"""

import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from data import chosen
from PIL import Image
from timing import interleave, ratio, show, verdict

from sslkit.data import images
from sslkit.data.prepare.packing import pack, plan
from sslkit.data.prepare.subset import Subset
from sslkit.data.sources.folder import FolderSource

SIDE = 128  # pixels: the shorter one
LARGE = 4  # times: how much larger photos are made for the second part, which a decoder can reduce


def resized(data: bytes, shorter_side: int) -> bytes:
    """A JPEG decoded, resized and encoded by PIL."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as opened:
        factor = shorter_side / min(opened.size)
        size = (round(factor * opened.width), round(factor * opened.height))
        opened.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=images.JPEG_QUALITY)
    return buffer.getvalue()


def measure(what: str, files: Sequence[bytes], rounds: int, least: tuple[float, float]) -> None:
    """Time the contenders on one set of files, and print; ``least`` of the same steps over PIL, and of the whole."""
    small = [images.decode(resized(data, SIDE)) for data in files]
    with tempfile.TemporaryDirectory() as folder:
        photo_folder = Path(folder, "photos")
        photo_folder.mkdir()
        for number, data in enumerate(files):
            (photo_folder / f"{number:04d}.jpg").write_bytes(data)

        def prepare() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                planned = plan(FolderSource(photo_folder), Subset(), Path(out, "scratch"))
                pack(Path(out, "data"), planned, size=SIDE)

        def pil() -> None:
            for path in sorted(photo_folder.iterdir()):
                resized(path.read_bytes(), SIDE)

        def steps() -> None:
            for data in files:
                values, size = images.read_to_shrink(data, images.DEFAULT, SIDE)
                images.encode_jpeg(images.shrink(images.finish(values, images.DEFAULT), size))

        def limit() -> None:
            for data, image in zip(files, small, strict=True):
                images.read_to_shrink(data, images.DEFAULT, SIDE)
                images.encode_jpeg(image)

        names = {"prepare": prepare, "its steps for an image": steps, "PIL": pil, "decoder and encoder alone": limit}
        seconds = interleave(names, rounds, clock=time.process_time)
    height, width = images.decode(files[0]).shape[1:]
    print(f"{len(files)} {what} photos, such as of {width} x {height}, to {SIDE} px, CPU seconds")
    show(seconds, len(files), "images")
    verdict("PIL / its steps for an image", ratio(seconds, "PIL", "its steps for an image"), least[0])
    verdict("PIL / prepare, which also hashes and writes a tar", ratio(seconds, "PIL", "prepare"), least[1])
    verdict("decoder and encoder alone / prepare", ratio(seconds, "decoder and encoder alone", "prepare"), 0.6)


def main() -> None:
    """Measure and print."""
    files, rounds = chosen(__doc__, count=120, rounds=4)
    measure("small", files, rounds, (1.4, 1.2))
    large = [resized(data, LARGE * min(images.decode(data).shape[1:])) for data in files[: len(files) // 8]]
    measure("large", large, rounds, (2.5, 2.3))


if __name__ == "__main__":
    main()
