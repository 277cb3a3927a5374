"""File formats of images by their suffix: what can be read, what an extra can read, and what is only named."""

import io
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePosixPath

from PIL import Image

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)
PLUGINS = {".heic": "pillow_heif", ".heif": "pillow_heif", ".jxl": "pillow_jxl"}  # suffix -> module that reads it
ARRAYS = ".npy"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")  # .nii.gz says more than .gz
ADVICE = {
    **dict.fromkeys(PLUGINS, "pip install 'sslkit[heic]' reads them"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM is not read; convert it to 16-bit PNG or TIFF, then use --range auto"),
    ".npy": "arrays are images only in a folder without image files; move them into one of their own",
    **dict.fromkeys((".npz", ".mat"), "arrays are not read; save each as a .npy of (H, W, C), or as PNG or TIFF"),
    **dict.fromkeys((".nii", ".nii.gz"), "NIfTI volumes are not read; save their slices as PNG or TIFF"),
    **dict.fromkeys((".cr2", ".nef", ".arw", ".dng", ".raf"), "raw photos are not read; develop them to JPEG or TIFF"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), "videos are not read; save their frames as images"),
}


@cache
def readable() -> frozenset[str]:
    """Suffixes of the formats that can be read here."""
    return SUFFIXES | {suffix for suffix, module in PLUGINS.items() if find_spec(module)}


def readable_among(names: Iterable[str]) -> frozenset[str]:
    """Suffixes of the images among some files: arrays are images only where nothing else is."""
    suffixes = readable()
    others = any(PurePosixPath(name).suffix.lower() in suffixes for name in names)
    return suffixes if others else suffixes | {ARRAYS}


@cache
def load_plugins() -> None:
    """Let Pillow read HEIC and JPEG XL, where the extra is installed, and images of any size; AVIF it reads itself.

    Its limit of pixels would be a second one next to ``PixelRules``, and cannot be raised for one image.
    """
    Image.MAX_IMAGE_PIXELS = None
    if find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
    if find_spec("pillow_jxl"):
        import_module("pillow_jxl")  # registers itself


def kind(name: str) -> str:
    """What to call the kind of a file that is not used: its suffix in lower case.

    >>> kind("a/IMG_1.HEIC"), kind("scan.nii.gz"), kind("README")
    ('.heic', '.nii.gz', 'without a suffix')
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else "without a suffix"


def kinds(names: Iterable[str]) -> Counter[str]:
    """How many files there are of each kind."""
    return Counter(map(kind, names))


def advice(found: Iterable[str]) -> list[str]:
    """What to do about kinds of files that hold images which are not read, a sentence each."""
    by_advice: dict[str, list[str]] = {}
    for one in found:
        if one in ADVICE and one not in readable():
            by_advice.setdefault(ADVICE[one], []).append(one)
    return [f"{', '.join(sorted(suffixes))}: {words}" for words, suffixes in by_advice.items()]


def what_is_there(names: Iterable[str], first: bytes = b"") -> str:
    """What to tell someone whose folder holds no images: how many files of which kinds, and what they may be.

    Args:
        names: of the files.
        first: the first file; scanners write DICOM without a suffix.
    """
    found = kinds(names)
    if not found:
        return "it is empty"
    common = ", ".join(f"{count} {one}" for one, count in found.most_common(5))
    shards = "; if they are WebDataset shards, use --source shards" if found[".tar"] else ""
    shards += f"; {ADVICE['.dcm']}" if first[128:132] == b"DICM" and not found[".dcm"] else ""
    return f"it holds {common}{shards}" + "".join(f"; {words}" for words in advice(found))


def frames(data: bytes) -> int:
    """How many frames or pages an image has; 1 where it cannot be told."""
    animated = data.startswith((b"GIF8", b"II*\0", b"MM\0*")) or data[4:12] in (b"ftypavis", b"ftypmsf1", b"ftyphevc")
    animated |= data[:4] == b"RIFF" and data[12:16] == b"VP8X" and len(data) > 20 and bool(data[20] & 2)
    if not animated and not (data.startswith(b"\x89PNG") and b"acTL" in data[:200]):
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return getattr(image, "n_frames", 1)
    except Exception:  # Damaged files raise anything; whether it can be read is found by who decodes it.
        return 1
