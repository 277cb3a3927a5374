"""Datasets as they lie on people's disks: what is found in each, and what its masks mean."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_masks import SIDE, coloured, mask, photo, squares

from sslkit import registry
from sslkit.errors import SslkitError
from sslkit.probes.segmentation.annotations import layouts
from sslkit.probes.segmentation.annotations.layouts.base import PACKAGE
from sslkit.probes.segmentation.annotations.layouts.voc import colours
from sslkit.probes.segmentation.annotations.recognise import find_dataset
from sslkit.probes.segmentation.annotations.values import MaskOptions
from sslkit.probes.segmentation.mask_folder import MaskFolder, open_folder


def opened(root: Path, split: str = "val", **said) -> MaskFolder:
    return open_folder(find_dataset(root, split), MaskOptions(**said))


def voc(root: Path, palette: bool = True) -> None:
    """Two aeroplanes and a dog, with a void pixel in the corner; the third name of the list has no mask."""
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for i in range(4):
        photo(root / f"JPEGImages/2007_{i:06d}.jpg", i)
    for i in (0, 1, 3):
        classes, objects = squares(1, 1, 12), squares(1, 2, 3)
        classes[-1, -1] = objects[-1, -1] = 255
        for folder, numbers in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            written = numbers if palette else np.array([_rgb(c) for c in colours().colours], np.uint8)[numbers]
            mask(root / folder / f"2007_{i:06d}.png", written, palette)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000001\n2007_000000\n2007_000002\n\n2009_000009\n")
    (root / "ImageSets/Segmentation/train.txt").write_text("")


def _rgb(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255


@pytest.mark.parametrize("palette", [True, False])  # people save them in their colours, too
def test_voc_has_lists_classes_and_single_objects(tmp_path, palette):
    voc(tmp_path / "VOCdevkit/VOC2012", palette)
    photos = opened(tmp_path / "VOCdevkit")  # the folder around it
    assert photos.names == ["2007_000001", "2007_000000"]
    assert list(photos.classes) == ["background", "aeroplane", "dog"]
    assert photos.objects == [1, 2]
    labels = photos.read(0)[1]
    assert [labels[0, 0], labels[0, 4], labels[0, 8], labels[4, 0], labels[-1, -1]] == [1, 1, 2, 0, -1]
    single = photos.read_objects(0)
    assert single is not None
    assert [single[0, 0], single[0, 4], single[0, 8], single[4, 0]] == [1, 2, 3, 0]
    assert single[-1, -1] == -1
    said = "\n".join(photos.remarks)
    assert "PASCAL VOC: JPEGImages with masks of SegmentationClass and SegmentationObject" in said
    assert "1 name in val.txt has no photo and is left out: 2009_000009" in said
    assert "1 photo in val.txt has no mask and is left out: 2007_000002" in said
    assert f"void, never counted: value 255 ({100 / SIDE**2:.1f} % of the pixels)" in said


def test_voc_without_masks_of_objects_or_of_classes(tmp_path):
    voc(tmp_path)
    (tmp_path / "SegmentationObject/2007_000001.png").unlink()
    assert "1 photo has no mask of single objects, left out: 2007_000001" in opened(tmp_path).remarks
    shutil.rmtree(tmp_path / "SegmentationObject")
    photos = opened(tmp_path)
    assert photos.read_objects(0) is None
    assert "without SegmentationObject, each class of a photo is one object" in photos.remarks[0]
    shutil.rmtree(tmp_path / "ImageSets")
    assert len(opened(tmp_path).names) == 3
    voc(tmp_path / "b")
    shutil.rmtree(tmp_path / "b/SegmentationClass")
    objects = opened(tmp_path / "b")  # their numbers are no classes
    assert objects.binary
    single, labels = objects.read_objects(0), objects.read(0)[1]
    assert single is not None
    assert single.max() == 3
    assert [labels[0, 0], labels[0, 8], labels[4, 0], labels[-1, -1]] == [1, 1, 0, -1]


def test_voc_colours_are_those_of_the_development_kit():
    table = colours()
    assert [_rgb(c) for c in table.colours[:4]] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert _rgb(table.colours[15]) == (192, 128, 128)
    assert _rgb(table.colours[255]) == (224, 224, 192)
    assert len(set(table.colours)) == 256


def test_a_voc_list_that_is_empty_or_missing_names_the_others(tmp_path):
    voc(tmp_path)
    with pytest.raises(SslkitError, match=r"train\.txt is empty; .*--list FILE \(lists with names there: val\)"):
        opened(tmp_path, "train")
    with pytest.raises(SslkitError, match=r"trainval\.txt does not exist; .*val\)"):
        opened(tmp_path, "trainval")
    (tmp_path / "ImageSets/Segmentation/other.txt").write_text("a\nb\n")
    with pytest.raises(SslkitError, match=r"other\.txt has a mask: 2 names in other\.txt have no photo .*: a, b"):
        opened(tmp_path, "other")


def cityscapes(root: Path, labels: str = "labelIds") -> None:
    for city, numbers in {"ulm": (7, 24, 26), "bonn": (0, 7, 11)}.items():
        name = f"{city}_000000_000019"
        photo(root / f"leftImg8bit/val/{city}/{name}_leftImg8bit.png")
        mask(root / f"gtFine/val/{city}/{name}_gtFine_{labels}.png", squares(*numbers))
        mask(root / f"gtFine/val/{city}/{name}_gtFine_color.png", coloured(squares(0, 1), [(0, 0, 0), (9, 9, 200)]))
        mask(root / f"gtFine/val/{city}/{name}_gtFine_instanceIds.png", squares(24001, dtype=np.uint16))
        (root / f"gtFine/val/{city}/{name}_gtFine_polygons.json").write_text("{}")
    photo(root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png")


def test_cityscapes_has_two_trees_and_ids_that_are_void(tmp_path):
    cityscapes(tmp_path)
    photos = opened(tmp_path)
    assert photos.names == [f"{city}/{city}_000000_000019_leftImg8bit" for city in ("bonn", "ulm")]
    assert list(photos.classes) == ["road", "building", "person", "car"]
    assert photos.objects == [0, 1, 2, 3]
    assert photos.read(0)[1][0, [0, 4, 8]].tolist() == [-1, 0, 1]
    said = "\n".join(photos.remarks)
    assert "photo NAME_leftImg8bit has the mask NAME_gtFine_labelIds" in said
    assert "2 masks named NAME_gtFine_instanceIds are not used" in said
    assert "void, never counted: unlabeled (0)" in said
    assert opened(tmp_path, void="none").classes[0] == "unlabeled"
    with pytest.raises(SslkitError, match=r"has no train: it has val"):
        opened(tmp_path, "train")
    with pytest.raises(SslkitError, match=r"has no tset: it has train, val; choose by --split"):
        opened(tmp_path, "tset")


def test_cityscapes_train_ids_have_no_background(tmp_path):
    cityscapes(tmp_path, "labelTrainIds")
    photos = opened(tmp_path)
    assert list(photos.classes) == ["road", "traffic sign", "person", "24", "26"]
    assert photos.objects == [0, 1, 2, 3, 4]


def imagenet_s(root: Path, ids: dict[str, tuple[int, ...]]) -> None:
    for wnid, values in ids.items():
        name = f"{wnid}/ILSVRC2012_val_0000{len(wnid)}{sum(values)}"
        photo(root / f"validation/{name}.JPEG")
        numbers = squares(*values, dtype=np.int64)
        written = np.stack([numbers % 256, numbers // 256, 0 * numbers], -1).astype(np.uint8)
        mask(root / f"validation-segmentation/{name}.png", written)


def test_imagenet_s_has_ids_of_two_channels(tmp_path):
    imagenet_s(tmp_path, {"n01440764": (5, 1000), "n02110185": (300, 255), "n03000000": (919,)})
    photos = opened(tmp_path)
    assert list(photos.classes) == ["0", "5", "255", "300", "919"]  # 255 is a class here
    assert photos.objects == [1, 2, 3, 4]
    assert photos.read(0)[1][0, [0, 4, 8]].tolist() == [1, -1, 0]
    said = "\n".join(photos.remarks)
    assert "ImageNet-S: validation with masks of validation-segmentation" in said
    assert "class ids of two channels, red + 256 green, 1000 for void" in said
    assert "void, never counted: value 1000" in said
    assert list(opened(tmp_path, void="5,1000").classes) == ["0", "255", "300", "919"]
    (tmp_path / "validation").rename(tmp_path / "train-semi")
    (tmp_path / "validation-segmentation").rename(tmp_path / "train-semi-segmentation")
    assert len(opened(tmp_path, "train").names) == 3


CAMVID = {"Sky": (128, 128, 128), "Car": (64, 0, 128), "Road": (128, 64, 128), "Void": (0, 0, 0)}


def camvid(root: Path, photos: str, masks: str, table: Path, write: Callable[[Path], None]) -> None:
    for i in range(3):
        photo(root / photos / f"0001TP_{i:06d}.png", i)
        numbers = squares(2, 0, 1, around=3)
        mask(root / masks / f"0001TP_{i:06d}_L.png", coloured(numbers, list(CAMVID.values())))
    write(table)


def label_colors(path: Path) -> None:
    path.write_text("".join(f"{r} {g} {b}\t\t{name}\n" for name, (r, g, b) in CAMVID.items()))


def class_dict(path: Path) -> None:
    path.write_text("name,r,g,b\n" + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in CAMVID.items()))


@pytest.mark.parametrize(
    ("photos", "masks", "table", "write"),
    [
        ("701_StillsRaw_full", "LabeledApproved_full", "label_colors.txt", label_colors),
        ("val", "val_labels", "class_dict.csv", class_dict),
    ],
)
def test_camvid_has_colours_with_a_table(tmp_path, photos, masks, table, write):
    camvid(tmp_path, photos, masks, tmp_path / table, write)
    found = opened(tmp_path)
    assert list(found.names) == [f"0001TP_{i:06d}" for i in range(3)]
    assert list(found.classes) == ["Sky", "Car", "Road"]
    assert found.objects == [0, 1, 2]  # black is not the background: the table calls it Void
    labels = found.read(0)[1]
    assert [labels[0, 0], labels[0, 4], labels[0, 8], labels[-1, -1]] == [2, 0, 1, -1]
    said = "\n".join(found.remarks)
    assert f"void, never counted: Void (3) ({100 * 2 / 3:.1f} % of the pixels)" in said
    assert f"colours of 4 classes by {table}" in said
    assert "photo NAME has the mask NAME_L" in said
    counted = opened(tmp_path, void="none")
    assert list(counted.classes) == ["Sky", "Car", "Road", "Void"]
    assert list(opened(tmp_path, void="Void,car").classes) == ["Sky", "Road"]


def test_segnets_camvid_has_numbers(tmp_path):
    for i in range(2):
        photo(tmp_path / f"val/{i}.png")
        mask(tmp_path / f"valannot/{i}.png", squares(8, 11, 3))
    found = opened(tmp_path)
    assert list(found.classes) == ["Sky", "Road", "Car"]
    assert found.objects == [0, 1, 2]  # 0 is the sky
    assert found.read(0)[1][0, [0, 4, 8]].tolist() == [2, -1, 1]


@pytest.mark.parametrize(
    ("photos", "masks"),
    [
        ("images/validation", "annotations/validation"),  # ADE20K
        ("val/images", "val/masks"),
        ("Images", "ground_truth_mask"),  # ECSSD
        ("images", "annotations/trimaps"),  # Oxford-IIIT Pet
        ("img", "labels"),  # and boxes in annotations/*.xml
        ("DUTS-TE-Image", "DUTS-TE-Mask"),
        ("val_images", "val_masks"),
    ],
)
def test_two_folders_with_or_without_splits(tmp_path, photos, masks):
    for i in range(2):
        photo(tmp_path / photos / f"{i}.jpg")
        mask(tmp_path / masks / f"{i}.png", squares(1, 2))
        photo(tmp_path / photos.replace("val", "train") / f"{i}.jpg")
        photo(tmp_path / masks.replace("val", "train") / f"{i}.png") if "val" in masks else None
    (tmp_path / "annotations/xmls").mkdir(parents=True, exist_ok=True)
    (tmp_path / photos / "notes.xml").touch()
    os.mkfifo(tmp_path / photos / "odd.png")
    found = opened(tmp_path)
    assert list(found.names) == ["0", "1"]
    assert list(found.classes) == ["0", "1", "2"]
    assert f"photos of {photos} with masks of {masks}" in found.remarks[0]
    assert f"1 file left out in {Path(photos).name}: 1 .xml" in found.remarks
    assert "1 left out, being no file that can be read: odd.png (a FIFO)" in found.remarks


def test_what_cannot_be_told_is_said(tmp_path):
    photo(tmp_path / "a/x.png")
    with pytest.raises(SslkitError, match=r"PASCAL VOC, Cityscapes, .*\(it holds a\): .* --images DIR --masks DIR"):
        find_dataset(tmp_path, "val")
    with pytest.raises(SslkitError, match="unpacked dataset"):
        find_dataset(tmp_path / "a/x.png", "val")
    for year in ("VOC2007", "VOC2012"):
        voc(tmp_path / year)
    with pytest.raises(SslkitError, match=r"holds 2 datasets: name one, such as .*VOC2007, .*VOC2012"):
        find_dataset(tmp_path, "val")
    for name in ("images", "masks", "gt"):
        photo(tmp_path / "two" / name / "x.png")
    with pytest.raises(SslkitError, match=r"has 2 folders of masks \(masks, gt\): name one, as in --images"):
        find_dataset(tmp_path / "two", "val")


DRONE = """
from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet, MaskLayout, Meaning
from sslkit.probes.segmentation.annotations.pairs import pair


class Drone(MaskLayout):
    title = "drone flights"

    @classmethod
    def recognise(cls, folders):
        return "flight" in folders

    def find(self, root, folders, split):
        return MaskedSet(pair(folders["flight"], folders["flight"]), took=f"{self.title}, {split}")

    @classmethod
    def meaning(cls, masks):
        return Meaning("drones", {1: "roof", 2: "tree"}) if masks[0].parent.name == "flight" else None
"""


def test_a_layout_is_one_file_in_the_folder(tmp_path, monkeypatch):
    (tmp_path / "drone.py").write_text(DRONE)
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    for i in range(2):
        photo(tmp_path / f"set/flight/{i}.jpg")
        mask(tmp_path / f"set/flight/{i}_annotation.png", squares(1, 2))
    found = opened(tmp_path / "set", "test")
    assert list(found.classes) == ["0", "roof", "tree"]
    assert found.remarks == ["drone flights, test", "photo NAME has the mask NAME_annotation", "values: drones"]


def test_every_layout_has_a_title_and_recognises_nothing_in_an_empty_folder():
    found = registry.load_all(PACKAGE).values()
    assert len({layout.title for layout in found}) == len(found)
    assert not any(layout.recognise({}) for layout in found)
