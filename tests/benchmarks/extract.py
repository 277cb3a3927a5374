"""Throughput of extract, from encoded images to arrays on disk, against the encoder's bare forward pass.

python tests/benchmarks/extract.py --images ../shared/data/imagenette-subset.tar
"""

import argparse
import tempfile
from pathlib import Path

import torch
from data import photos
from timing import interleave, ratio, show, verdict

from sslkit.data.shards import Record, open_split, write_shard
from sslkit.device import autocast, pick_device, resolve_precision
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.files import write_json
from sslkit.probes.features.extraction import EncoderEmbedding, extract_batches, row_shapes
from sslkit.probes.features.resumable_arrays import PartialArrays
from sslkit.workers import worker_count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="tar or folder of JPEG photos; default: generated ones")
    parser.add_argument("--count", type=int, default=256, help="photos in a round")
    parser.add_argument("--arch", default="vit_small_patch16_224")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    precision = resolve_precision(arguments.precision, device)
    workers = worker_count(arguments.workers, device)
    spec = EncoderSpec(arguments.arch)
    encoder = Encoder(spec).to(device).eval()
    embedding = EncoderEmbedding(FrozenEncoder(encoder, spec.image_size, device, precision), 4)
    size, batch = embedding.image_size, arguments.batch_size
    files = photos(arguments.images, arguments.count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shard(folder / "val.tar", (Record(f"{i:06d}", 0, {"jpg": data}) for i, data in enumerate(files)), [])
        splits = {"val": {"shards": [{"file": "val.tar"}]}}
        write_json(folder / "manifest.json", {"classes": ["photo"], "splits": splits})
        split, shapes = open_split(folder, "val"), row_shapes(embedding)
        tries = iter(range(10**6))

        def extract() -> None:
            out = folder / str(next(tries))
            arrays = PartialArrays({key: out / f"{key}.npy" for key in shapes}, shapes, len(split), batch)
            extract_batches(split, embedding, arrays, arrays.prepare("benchmark"), workers)
            arrays.finish()

        pixels = torch.randn(batch, 3, size, size, device=device)

        @torch.inference_mode()
        def bare() -> None:
            with autocast(device, precision):
                for first in range(0, len(split), batch):
                    # Reading a number waits for the device.
                    embedding.frozen.encoder.model(pixels[: len(split) - first])[0, 0].item()

        seconds = interleave({"bare forward": bare, "extract": extract}, arguments.rounds)
    print(f"{len(files)} photos, {arguments.arch}, {size} px, {device}, {precision}, {workers} workers")
    show(seconds, len(files), "images")
    verdict("extract / bare forward throughput", 1 / ratio(seconds, "extract", "bare forward"), 0.9)


if __name__ == "__main__":
    main()
