"""A folder of photos and one of masks, as ADE20K, ECSSD and most small datasets have, with or without splits.

The splits may be in both (``images/val`` and ``masks/val``) or around both (``val/images`` and ``val/masks``).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from sslkit.data.prepare.formats import readable
from sslkit.data.prepare.split_names import split_named
from sslkit.errors import SslkitError, named
from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet, MaskLayout
from sslkit.probes.segmentation.annotations.pairs import pair
from sslkit.probes.segmentation.annotations.parts import split_folder

# fmt: off
PHOTOS = [
    "images", "image", "imgs", "img", "photos", "pictures", "jpegimages", "images_png", "rgb", "original", "input",
]
MASKS = [
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "ground_truth", "groundtruth",
    "ground_truth_mask", "ground-truth", "gt", "gts", "segmentations", "segmentation", "segmentation_masks",
    "masks_png", "label_images", "trimaps", "silhouettes", "target", "targets"
]
# fmt: on


class TwoFolders(MaskLayout):
    """``images`` and ``masks``, or other names for them."""

    title = "two folders"
    specific = 10

    @classmethod
    def recognise(cls, folders: Mapping[str, Path]) -> bool:
        """By the names of folders, here or in the folders of splits."""
        inner = (below(path) for path in folders.values() if split_named(path.name))
        return bool(_complete(folders) or _by_last_word(folders) or any(map(_complete, inner)))

    def find(self, root: Path, folders: Mapping[str, Path], split: str) -> MaskedSet:
        """The split, or everything where there are no splits."""
        if sets := not _complete(folders) and _by_last_word(folders):
            named_so = [first for first in sets if len(sets) == 1 or split_named(first) == split]
            if not named_so:
                raise SslkitError(f"{root} has no {split}: it has {named(list(sets), 6)}; choose by --split")
            folders = sets[named_so[0]]
        if not _complete(folders):
            around = [path for path in folders.values() if split_named(path.name) and _complete(below(path))]
            folders = below(split_folder(around, split))
        photos = folders[_named(folders, PHOTOS)[0]]
        several = [folders[name] for name in _named(folders, MASKS)]
        if len(several) > 1:  # labels of another task may lie there too, as boxes in text files
            several = [path for path in several if any(p.suffix.lower() in readable() for p in path.rglob("*"))]
        if len(several) > 1:
            raise SslkitError(
                f"{photos.parent} has {len(several)} folders of masks ({named([path.name for path in several], 6)}): "
                f"name one, as in --images {photos} --masks {several[0]}"
            )
        drawn = several[0] if several else folders[_named(folders, MASKS)[0]]
        # A folder of masks may hold one with the masks in it, as Oxford-IIIT Pet's annotations/trimaps.
        inner = [path for name, path in below(drawn).items() if name in MASKS]
        drawn = inner[0] if len(inner) == 1 else drawn
        splits = [[path for path in below(one).values() if split_named(path.name)] for one in (photos, drawn)]
        if all(splits):
            photos, drawn = (split_folder(one, split) for one in splits)
        took = f"photos of {photos.relative_to(root)} with masks of {drawn.relative_to(root)}"
        return MaskedSet(pair(photos, drawn), took=took)


def below(folder: Path) -> dict[str, Path]:
    """The folders in a folder by name in lower case."""
    return {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}


def _complete(folders: Mapping[str, Path]) -> bool:
    return bool(_named(folders, PHOTOS) and _named(folders, MASKS))


def _by_last_word(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """Folders such as ``train_images`` and ``train_masks`` as ``images`` and ``masks`` of ``train``, where both are."""
    sets: dict[str, dict[str, Path]] = {}
    for name, path in folders.items():
        first, _, last = re.sub(r"[-_ ]", " ", name).rpartition(" ")
        sets.setdefault(first, {})[last] = path
    return {first: found for first, found in sets.items() if first and _complete(found)}


def _named(folders: Mapping[str, Path], names: list[str]) -> list[str]:
    return [name for name in names if name in folders]
