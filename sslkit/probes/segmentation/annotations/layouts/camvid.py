"""CamVid (Brostow et al., 2009): the original's two folders, or splits with their masks next to them.

Masks have colours (``0001TP_006690_L.png``, with ``label_colors.txt`` or ``class_dict.csv``), or, as SegNet's authors
publish them, the numbers of eleven classes and 11 for void.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet, MaskLayout, Meaning
from sslkit.probes.segmentation.annotations.pairs import pair
from sslkit.probes.segmentation.annotations.parts import split_folder

ORIGINAL = "701_stillsraw_full", "labeledapproved_full"
ENDINGS = ("_labels", "annot", "_mask", "_masks", "_label", "_gt")  # of the folder of masks next to that of photos
# fmt: off
SEGNET = [
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian",
    "Bicyclist"
]
# fmt: on


class CamVid(MaskLayout):
    """``701_StillsRaw_full`` and ``LabeledApproved_full``; ``val`` and ``val_labels``; or ``val`` and ``valannot``."""

    title = "CamVid"
    specific = 60

    @classmethod
    def recognise(cls, folders: Mapping[str, Path]) -> bool:
        """By the names of folders."""
        return all(name in folders for name in ORIGINAL) or bool(_splits(folders))

    def find(self, root: Path, folders: Mapping[str, Path], split: str) -> MaskedSet:
        """The split, or everything where the original's folders have none."""
        splits = _splits(folders)
        if splits:
            photos = split_folder([folders[name] for name in splits], split)
            drawn = splits[photos.name.lower()]
            return MaskedSet(pair(photos, drawn), took=f"photos of {photos.name} with masks of {drawn.name}, as CamVid")
        photos, drawn = (folders[name] for name in ORIGINAL)
        took = f"{self.title}: all photos of {photos.name}, which has no splits, with masks of {drawn.name}"
        return MaskedSet(pair(photos, drawn), took=took)

    @classmethod
    def meaning(cls, masks: Sequence[Path]) -> Meaning | None:
        """By the name of the folder: SegNet's classes."""
        if not all(path.parent.name.lower() in ("trainannot", "valannot", "testannot") for path in masks):
            return None
        void = len(SEGNET)
        return Meaning("SegNet's CamVid", dict(enumerate(SEGNET)), frozenset({void}), None)


def _splits(folders: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of masks of each folder of photos that has one."""
    return {name: folders[name + end] for name in folders for end in ENDINGS if name + end in folders}
