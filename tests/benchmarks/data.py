"""Decode and cut 2 x 224 + 10 x 96 crops on one core, against lightly's PIL pipeline (pip install 'sslkit[benchmark]').

python tests/benchmarks/data.py --images ../shared/data/ecssd-200.tar
"""

import argparse
import io
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import interleave, ratio, show, verdict

from sslkit.data.augment import photometric
from sslkit.data.shards import Record, open_split, write_shard
from sslkit.data.views import ViewMaker
from sslkit.files import write_json
from sslkit.recipe.sections import ViewsSection

# DINO's own crops and probabilities, which lightly's transform has as defaults.
SECTION = {
    "global": {"count": 2, "size": 224, "scale": [0.4, 1.0]},
    "local": {"count": 10, "size": 96, "scale": [0.05, 0.4]},
}
SUFFIXES = {".jpg", ".jpeg"}
MICRO_BATCH = 8  # images whose photometric part runs together


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


def generated(number: int) -> bytes:
    """1/f noise in colour, which compresses about as a photo does."""
    noise = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(300)[:, None], np.fft.rfftfreq(400)[None]) + 1 / 400
    waves = np.fft.irfft2(np.fft.rfft2(noise.normal(size=(3, 300, 400))) / frequency, s=(300, 400))
    pixels = np.clip(128 + 50 * waves / waves.std(), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="tar or folder of JPEG photos; default: generated ones")
    parser.add_argument("--count", type=int, default=48, help="photos in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in a loader's worker
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightly.transforms.dino_transform import DINOTransform

        pil = DINOTransform(
            global_crop_size=224,
            global_crop_scale=(0.4, 1.0),
            local_crop_size=96,
            local_crop_scale=(0.05, 0.4),
            n_local_views=10,
        )
    files = photos(arguments.images, arguments.count)
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "train-000000.tar"
        write_shard(shard, (Record(f"{i:06d}", 0, {"jpg": data}) for i, data in enumerate(files)), [])
        write_json(
            Path(folder) / "manifest.json",
            {"classes": ["photo"], "splits": {"train": {"shards": [{"file": shard.name}]}}},
        )
        split = open_split(Path(folder), "train")
        views = ViewMaker(ViewsSection.model_validate(SECTION), 224, 16, seed=0)

        def geometric() -> None:
            for index in range(len(split)):
                views(split.image(index), 0, index)

        def everything() -> None:
            for first in range(0, len(split), MICRO_BATCH):
                made = [views(split.image(i), 0, i) for i in range(first, min(first + MICRO_BATCH, len(split)))]
                for group in range(len(views.groups)):
                    draws = torch.from_numpy(np.stack([draw[group] for _, draw in made], 1))
                    photometric(torch.stack([crops[group] for crops, _ in made], 1), draws)

        def lightly() -> None:
            for index in range(len(split)):
                with Image.open(io.BytesIO(split.image_bytes(index))) as image:
                    pil(image.convert("RGB"))

        names = {"sslkit, worker's part": geometric, "sslkit, with photometric": everything, "lightly (PIL)": lightly}
        seconds = interleave(names, arguments.rounds)
    slow, cut, full = "lightly (PIL)", "sslkit, worker's part", "sslkit, with photometric"
    print(f"{len(files)} photos, 2 x 224 + 10 x 96 crops each, one core")
    show(seconds, len(files), "images")
    verdict("lightly / sslkit per worker core", ratio(seconds, slow, cut), 5)
    verdict("lightly / sslkit with the photometric part on the same core", ratio(seconds, slow, full), 2)


if __name__ == "__main__":
    main()
