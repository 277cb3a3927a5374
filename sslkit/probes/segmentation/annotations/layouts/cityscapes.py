"""Cityscapes (arXiv:1604.01685): photos and masks in two trees of the same folders, a city each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet, MaskLayout, Meaning
from sslkit.probes.segmentation.annotations.pairs import pair
from sslkit.probes.segmentation.annotations.parts import split_folder

# fmt: off
IDS = [
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road",
    "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car",
    "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"
]
# fmt: on
TRAINED = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]  # the ids that are evaluated, in the order of trainIds
VOID = 255


class Cityscapes(MaskLayout):
    """``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``."""

    title = "Cityscapes"
    specific = 80

    @classmethod
    def recognise(cls, folders: Mapping[str, Path]) -> bool:
        """By the two trees."""
        return "leftimg8bit" in folders and ("gtfine" in folders or "gtcoarse" in folders)

    def find(self, root: Path, folders: Mapping[str, Path], split: str) -> MaskedSet:
        """The split's cities, with fine masks where there are both."""
        photos = _split(folders["leftimg8bit"], split)
        drawn = folders["gtfine"] if "gtfine" in folders else folders["gtcoarse"]
        took = f"{self.title}: {photos.relative_to(root)} with masks of {drawn.name}"
        return MaskedSet(pair(photos, _split(drawn, split)), took=took)

    @classmethod
    def meaning(cls, masks: Sequence[Path]) -> Meaning | None:
        """By the ending of their names; ids that the benchmark does not evaluate are void."""
        if all(path.stem.endswith("_labelIds") for path in masks):
            void = frozenset({*range(len(IDS)), VOID} - set(TRAINED))
            return Meaning("Cityscapes' label ids", dict(enumerate(IDS)), void, None)
        if all(path.stem.endswith("_labelTrainIds") for path in masks):
            names = dict(enumerate(IDS[i] for i in TRAINED))
            return Meaning("Cityscapes' train ids", names, frozenset({VOID}), None)
        return None


def _split(folder: Path, split: str) -> Path:
    return split_folder([path for path in sorted(folder.iterdir()) if path.is_dir()], split)
