"""ImageNet-S (arXiv:2106.03149): ``validation`` and ``validation-segmentation``, with class folders in both.

Ids of up to 919 are in two channels, see ``encodings/two_channels.py``.
"""

from collections.abc import Mapping
from pathlib import Path

from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet, MaskLayout
from sslkit.probes.segmentation.annotations.pairs import pair
from sslkit.probes.segmentation.annotations.parts import split_folder

ENDING = "-segmentation"


class ImagenetS(MaskLayout):
    """A folder of masks next to each folder of photos, called ``...-segmentation``."""

    title = "ImageNet-S"
    specific = 70

    @classmethod
    def recognise(cls, folders: Mapping[str, Path]) -> bool:
        """By the names of folders."""
        return any(name + ENDING in folders for name in folders)

    def find(self, root: Path, folders: Mapping[str, Path], split: str) -> MaskedSet:
        """The split with masks; those of train are in ``train-semi``."""
        able = {name.removesuffix("-semi"): path for name, path in folders.items() if name + ENDING in folders}
        wanted = split.lower().removesuffix("-semi")
        photos = able.get(wanted) or split_folder(list(able.values()), split)
        drawn = folders[photos.name.lower() + ENDING]
        return MaskedSet(pair(photos, drawn), took=f"{self.title}: {photos.name} with masks of {drawn.name}")
