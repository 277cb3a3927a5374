"""Views on one core, against lightly's PIL pipeline (pip install 'sslkit[benchmark]'), in CPU seconds.

Photos, decoded and cut to 2 x 224 + 10 x 96; and images of 32 x 32 in memory, to 2 x 32 as in recipe small32.

python tests/benchmarks/data.py --images ../shared/data/ecssd-200.tar
"""

import argparse
import io
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import interleave, ratio, show, verdict

from sslkit.data.augment import photometric
from sslkit.data.images import decode, shrink
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.shards import Record, open_split, write_shard
from sslkit.data.views import ViewMaker
from sslkit.files import write_json
from sslkit.recipe.sections import ViewsSection

# DINO's own crops and probabilities, which lightly's transform has as defaults.
PHOTOS = {
    "global": {"count": 2, "size": 224, "scale": [0.4, 1.0]},
    "local": {"count": 10, "size": 96, "scale": [0.05, 0.4]},
}
SMALL = {"global": {"count": 2, "size": 32, "scale": [0.3, 1.0]}, "local": {"count": 0}, "augment": {"blur": 0.0}}
SUFFIXES = {".jpg", ".jpeg"}
PHOTOS_AT_ONCE, SMALL_AT_ONCE = 8, 256  # images of a micro-batch


def photos(source: Path | None, count: int) -> list[bytes]:
    """JPEG files from a tar or a folder, else generated ones of 400 x 300."""
    if source is None:
        return [generated(number) for number in range(count)]
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        files = [path.read_bytes() for path in found[:count]]
    else:
        with tarfile.open(source) as tar:
            members = [m for m in tar.getmembers() if Path(m.name).suffix.lower() in SUFFIXES]
            chosen = sorted(members, key=lambda m: m.name)[:count]
            files = [handle.read() for m in chosen if (handle := tar.extractfile(m))]
    if not files:
        raise SystemExit(f"no JPEG in {source}")
    return files


def chosen(description: str | None, count: int, rounds: int) -> tuple[list[bytes], int]:
    """The photos and the rounds that the command line asks for; torch takes one thread, as in a loader's worker."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="tar or folder of JPEG photos; default: generated ones")
    parser.add_argument("--count", type=int, default=count, help="photos in a round")
    parser.add_argument("--rounds", type=int, default=rounds)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    return photos(arguments.images, arguments.count), arguments.rounds


def generated(number: int) -> bytes:
    """1/f noise in colour, which compresses about as a photo does."""
    noise = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(300)[:, None], np.fft.rfftfreq(400)[None]) + 1 / 400
    waves = np.fft.irfft2(np.fft.rfft2(noise.normal(size=(3, 300, 400))) / frequency, s=(300, 400))
    pixels = np.clip(128 + 50 * waves / waves.std(), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pil_views(section: dict[str, dict[str, Any]], blur: tuple[float, float, float]) -> Callable[[Image.Image], object]:
    """lightly's transform with the crops of a section."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightly.transforms.dino_transform import DINOTransform

    crops, local = section["global"], section["local"]
    return DINOTransform(
        global_crop_size=crops["size"],
        global_crop_scale=tuple(crops["scale"]),
        local_crop_size=local.get("size", crops["size"]),
        local_crop_scale=tuple(local.get("scale", crops["scale"])),
        n_local_views=local["count"],
        gaussian_blur=blur,
    )


def measure(
    batches: ViewBatches, pil: Callable[[], object], at_once: int, rounds: int, least: tuple[float, float]
) -> None:
    """Time a worker's part, that with the photometric part, and PIL; and print."""
    count = len(batches.images)
    keys = [(0, np.arange(first, min(first + at_once, count))) for first in range(0, count, at_once)]

    def worker() -> None:
        for key in keys:
            batches[key]

    def everything() -> None:
        for batch in map(batches.__getitem__, keys):
            for crops, draws in zip(batch.crops, batch.photometric, strict=True):
                photometric(crops, draws)

    cut, full, slow = "sslkit, worker's part", "sslkit, with photometric", "lightly (PIL)"
    seconds = interleave({cut: worker, full: everything, slow: pil}, rounds, clock=time.process_time)
    groups = " + ".join(f"{group.count} x {group.size}" for group in batches.views.groups)
    print(f"{count} images, {groups} crops each, CPU seconds")
    show(seconds, count, "images")
    verdict("lightly / sslkit per worker core", ratio(seconds, slow, cut), least[0])
    verdict("lightly / sslkit with the photometric part on the same core", ratio(seconds, slow, full), least[1])


def main() -> None:
    """Measure and print."""
    files, rounds = chosen(__doc__, count=48, rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "train-000000.tar"
        write_shard(shard, (Record(f"{i:06d}", 0, {"jpg": data}) for i, data in enumerate(files)), [])
        write_json(
            Path(folder) / "manifest.json",
            {"classes": ["photo"], "splits": {"train": {"shards": [{"file": shard.name}]}}},
        )
        split = open_split(Path(folder), "train")
        transform = pil_views(PHOTOS, (1.0, 0.1, 0.5))

        def of_photos() -> None:
            for index in range(len(split)):
                with Image.open(io.BytesIO(split.image_bytes(index))) as image:
                    transform(image.convert("RGB"))

        views = ViewMaker(ViewsSection.model_validate(PHOTOS), 224, 16, seed=0)
        measure(ViewBatches(split, views), of_photos, PHOTOS_AT_ONCE, rounds, (5, 2.5))

    shrunk = torch.stack([shrink(decode(data), (32, 32)).contiguous() for data in files])
    small = shrunk.repeat(-(-SMALL_AT_ONCE // len(files)), 1, 1, 1)[:SMALL_AT_ONCE]
    as_pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in small]
    small_transform = pil_views(SMALL, (0.0, 0.0, 0.0))
    views = ViewMaker(ViewsSection.model_validate(SMALL), 32, 4, seed=0)
    in_memory = DecodedImages(small.contiguous(memory_format=torch.channels_last), np.zeros(len(small), np.int64))
    measure(
        ViewBatches(in_memory, views),
        lambda: [small_transform(image) for image in as_pil],
        SMALL_AT_ONCE,
        rounds,
        (5, 3),
    )


if __name__ == "__main__":
    main()
