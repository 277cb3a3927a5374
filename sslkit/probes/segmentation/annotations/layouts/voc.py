"""PASCAL VOC (Everingham et al., 2010): photos in one folder, named by lists, with masks of classes and of objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sslkit.probes.segmentation.annotations.colour_table import ColourTable
from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet, MaskLayout, Meaning
from sslkit.probes.segmentation.annotations.pairs import Pairs, image_files

PHOTOS, CLASSES, OBJECTS = "jpegimages", "segmentationclass", "segmentationobject"
# fmt: off
NAMES = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"
]
# fmt: on
VOID = 255


class Voc(MaskLayout):
    """``JPEGImages``, ``SegmentationClass``, ``SegmentationObject``, and the lists of ``ImageSets/Segmentation``."""

    title = "PASCAL VOC"
    specific = 90

    @classmethod
    def recognise(cls, folders: Mapping[str, Path]) -> bool:
        """By the folders of photos and of masks."""
        return PHOTOS in folders and (CLASSES in folders or OBJECTS in folders)

    def find(self, root: Path, folders: Mapping[str, Path], split: str) -> MaskedSet:
        """The photos of a list; objects only where there are no masks of classes."""
        by_class, by_object = (self._files(folders, name) for name in (CLASSES, OBJECTS))
        said = [folders[name].name for name, files in ((CLASSES, by_class), (OBJECTS, by_object)) if files]
        lists = root / "ImageSets" / "Segmentation"
        photos = self._files(folders, PHOTOS)
        objects = by_object if by_class else {}
        took = f"{self.title}: {folders[PHOTOS].name} with masks of {' and '.join(said)}"
        took += "" if by_object else "; without SegmentationObject, each class of a photo is one object"
        took += "" if lists.is_dir() else "; all photos with a mask, as there is no ImageSets/Segmentation"
        listed = lists / f"{split}.txt" if lists.is_dir() else None
        return MaskedSet(Pairs(photos, by_class or by_object), listed, took, objects)

    @staticmethod
    def _files(folders: Mapping[str, Path], name: str) -> dict[str, Path]:
        """Images by name; a folder of masks may be missing or empty."""
        if name not in folders or (name != PHOTOS and not any(folders[name].iterdir())):
            return {}
        return {path.stem: path for path in image_files(folders[name], "--dataset")}

    @classmethod
    def meaning(cls, masks: Sequence[Path]) -> Meaning | None:
        """By the name of their folder."""
        folders = {path.parent.name.lower() for path in masks}
        if folders == {OBJECTS}:
            return Meaning(
                "PASCAL VOC's single objects, of unknown class", void=frozenset({VOID}), table=colours(), single=True
            )
        if folders != {CLASSES}:
            return None
        return Meaning("PASCAL VOC's classes", dict(enumerate(NAMES)), frozenset({VOID}), 0, colours())


def colours() -> ColourTable:
    """VOC's 256 colours: the bits of a class's number, dealt out to red, green and blue, from the highest down."""
    rows = []
    for number in range(VOID + 1):
        shares = [sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3)]
        rows.append((shares[0] << 16 | shares[1] << 8 | shares[2], NAMES[number] if number < len(NAMES) else ""))
    return ColourTable("PASCAL VOC's colours", [colour for colour, _ in rows], [name for _, name in rows])
