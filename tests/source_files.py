"""Small images on disk for the tests of sources, and what a source makes of them."""

import io
import tarfile

import numpy as np

from sslkit import registry
from sslkit.data import images
from sslkit.data.sources.base import PACKAGE


def png(value=0, side=4):
    return images.encode_png(np.full((side, side, 3), value, np.uint8))


def opened(name, root, tmp_path, seed=0):
    source = registry.load(PACKAGE, name)(root, seed)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    source.open(scratch)
    return source


def lay_out(root, files):
    for i, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i) if path.suffix != ".txt" else b"words")
    return root


def add_to_tar(path, files, mode="w", **header):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def content(source):
    """Split -> list of (class name or None, image bytes)."""
    return {
        split: [
            (source.classes[label] if label >= 0 else None, source.read(split, i).image)
            for i, label in enumerate(labels.tolist())
        ]
        for split, labels in source.splits().items()
    }
