"""Small images on disk for the tests of sources, and what a source makes of them."""

import io
import tarfile

import numpy as np
from PIL import Image

from sslkit import registry
from sslkit.data import images
from sslkit.data.prepare.recognise import recognise
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


WNIDS = ("n01440764", "n02102040", "n03000684")


def tinted(label, number=0, kind="JPEG", side=40):
    """An image whose brightest channel is the label's, so that a wrong label shows."""
    pixels = np.random.default_rng(1000 * label + number).integers(0, 120, (side, side, 3)).astype(np.uint8)
    pixels[..., label % 3] += 100
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write(root, files):
    """Files of bytes or text below a root."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def tar_bytes(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def taken(root, tmp_path, as_source):
    """The source that recognises a place, opened; its labels must agree with the tints."""
    name, took = recognise(root)
    assert name == as_source, took
    assert took
    source = opened(name, root, tmp_path)
    for split, labels in source.splits().items():
        for i, label in enumerate(labels.tolist()):
            assert source.read(split, i).label == label
            if label >= 0:
                tint = images.decode(source.read(split, i).image).float().mean((1, 2)).argmax()
                assert tint == label % 3, source.name(split, i)
    return source


def counts(source):
    """Split -> (images, labelled)."""
    return {split: (len(labels), int((labels >= 0).sum())) for split, labels in source.splits().items()}
