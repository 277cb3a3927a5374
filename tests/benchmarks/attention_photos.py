"""One sheet of photos and, below each, what CLS of several encoders attends to in the last layer, mean over heads.

python tests/benchmarks/attention_photos.py --images PHOTOS --out .readme/attention-photos.png random DINO=runs/dino ...
"""

import argparse
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, decode_image

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.plots.attention.maps import overlay
from sslkit.plots.pictures import fit, to_picture
from sslkit.plots.sheet import Tile, compose, save_sheet
from sslkit.probes.inspect.attention_maps import AttentionReader
from sslkit.weights.read import load_encoder

SIDE = 96  # pixels of a picture's shorter side


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG photos")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("encoders", nargs="+", metavar="NAME=RUN", help="or random: the architecture of the next one")
    arguments = parser.parse_args()
    runs = [word.partition("=") for word in arguments.encoders]
    first = Path(next(path for _, _, path in runs if path)) / "pretrain"
    rows: list[list[Tile]] = []
    photos = [decode_image(str(path), ImageReadMode.RGB) for path in sorted(arguments.images.glob("*.jpg"))]
    for name, _, path in runs:
        if path:
            encoder = load_encoder(Path(path) / "pretrain/encoder.safetensors", Path(path) / "pretrain/encoder.json")
        else:
            torch.manual_seed(0)
            encoder = Encoder(load_encoder(first / "encoder.safetensors", first / "encoder.json").spec).eval()
        frozen = FrozenEncoder(encoder, arguments.image_size, torch.device("cpu"), "fp32")
        reader = AttentionReader(frozen)
        seen = [reader.main_maps(photo) for photo in photos]
        pictures = [fit(to_picture(reader.resize(photo)), SIDE, SIDE) for photo in photos]
        if not rows:
            rows.append([Tile("", picture) for picture in pictures])
        drawn = [overlay(picture, maps.mean(0)) for picture, maps in zip(pictures, seen, strict=True)]
        rows.append([Tile(name if number == 0 else "", picture) for number, picture in enumerate(drawn)])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_sheet(
        compose(rows), arguments.out, "photos, and below each the attention of " + ", ".join(n for n, _, _ in runs)
    )


if __name__ == "__main__":
    main()
