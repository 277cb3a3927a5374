"""Pairs of photos and masks by the names that people give them."""

from pathlib import Path

import pytest

from sslkit.errors import SslkitError
from sslkit.probes.segmentation.annotations.pairs import Pairs, pair


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def paired(pairs: Pairs) -> dict[str, str]:
    return {name: path.name for name, path in pairs.masks.items() if name in pairs.photos}


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("{}.jpg", "{}.png"),
        ("{}.png", "{}_L.png"),  # CamVid
        ("{}_leftImg8bit.png", "{}_gtFine_labelIds.png"),  # Cityscapes
        ("{}.jpg", "{}_segmentation.png"),  # ISIC
        ("{}_training.tif", "{}_manual1.gif"),  # DRIVE
        ("image_{}.jpg", "mask_{}.png"),
        ("img{}.jpg", "label{}.png"),
        ("top_{}_RGB.tif", "top_{}_label.tif"),  # Potsdam
        ("{}.jpg", "{}mask.png"),
        ("{}.png", "seg {}.png"),
    ],
)
def test_endings_and_beginnings_are_found_from_the_names(tmp_path, photo, mask):
    numbers = [f"{n:02d}" for n in (1, 2, 3, 10, 11, 21)]
    images = touch(tmp_path / "a", *(photo.format(n) for n in numbers))
    masks = touch(tmp_path / "b", *(mask.format(n) for n in numbers[:5]))
    found = pair(images, masks)
    expected = {Path(photo.format(n)).stem: mask.format(n) for n in numbers[:5]}
    assert paired(found) == expected
    assert found.photos.keys() - found.masks.keys() == {Path(photo.format("21")).stem}
    assert not found.strays
    assert bool(found.took) == (Path(photo).stem != Path(mask).stem)


def test_folders_are_part_of_a_name_where_both_trees_have_them(tmp_path):
    images = touch(tmp_path / "photos", "bonn/0.png", "bonn/1.png", "ulm/0.png")
    masks = touch(tmp_path / "labels", "bonn/0_L.png", "ulm/0_L.png", "ulm/1_L.png")
    found = pair(images, masks)
    assert found.masks == {"bonn/0": masks / "bonn/0_L.png", "ulm/0": masks / "ulm/0_L.png"}
    assert found.strays == ["ulm/1_L.png"]
    flat = touch(tmp_path / "flat", "a.png", "b.png")
    deep = touch(tmp_path / "deep", "x/a.png", "y/b.png")
    assert paired(pair(flat, deep)) == {"a": "a.png", "b": "b.png"}


def test_of_several_masks_of_a_photo_the_labels_are_taken_and_the_others_named(tmp_path):
    kinds = ("_gtFine_color", "_gtFine_instanceIds", "_gtFine_labelIds", "_gtFine_labelTrainIds")
    images = touch(tmp_path / "leftImg8bit", *(f"ulm/ulm_{n}_leftImg8bit.png" for n in "012"))
    masks = touch(tmp_path / "gtFine", *(f"ulm/ulm_{n}{kind}.png" for n in "012" for kind in kinds))
    found = pair(images, masks)
    assert paired(found) == {f"ulm/ulm_{n}_leftImg8bit": f"ulm_{n}_gtFine_labelIds.png" for n in "012"}
    assert found.took == "photo NAME_leftImg8bit has the mask NAME_gtFine_labelIds"
    assert sorted(found.others) == [
        f"3 masks named NAME{kind} are not used" for kind in kinds if kind != "_gtFine_labelIds"
    ]
    assert not found.strays
    copies = touch(tmp_path / "copies", *(f"{n}{end}.png" for n in "012" for end in ("", "_mask")))
    assert paired(pair(touch(tmp_path / "a", "0.png", "1.png"), copies)) == {"0": "0_mask.png", "1": "1_mask.png"}


def test_photos_and_masks_of_one_folder(tmp_path):
    mixed = touch(tmp_path / "mixed", "a.jpg", "a_mask.png", "b.jpg", "b_mask.png", "c.jpg", "d_mask.png")
    found = pair(mixed, mixed)
    assert paired(found) == {"a": "a_mask.png", "b": "b_mask.png"}
    assert set(found.photos) == {"a", "b", "c"}
    assert found.strays == ["d_mask.png"]
    twins = touch(tmp_path / "twins", "a.jpg", "a.png", "b.jpg", "b.png")  # MSRA10K
    assert paired(pair(twins, twins)) == {"a": "a.png", "b": "b.png"}
    # Masks in a folder within that of the photos are no photos.
    inner = touch(tmp_path / "inner", "a.png", "b.png", "masks/a.png", "masks/b.png")
    assert set(pair(inner, inner / "masks").photos) == {"a", "b"}


@pytest.mark.parametrize(
    ("photos", "masks"),
    [
        (["ant.jpg"], ["bee.png"]),
        (["cat 1.jpg", "cat 3.jpg"], ["cat 2.png", "cat 4.png"]),  # numbers tell photos apart
        (["img1.jpg"], ["img12.png"]),
        (["photo_a.jpg", "photo_c.jpg"], ["photo_b.png"]),
        (["a.jpg", "b.jpg"], ["x.png"]),
    ],
)
def test_names_that_only_look_alike_are_no_pair(tmp_path, photos, masks):
    with pytest.raises(SslkitError, match=rf"mask of the same name .*{photos[0]} and {masks[0]}"):
        pair(touch(tmp_path / "a", *photos), touch(tmp_path / "b", *masks))


def test_what_is_no_folder_of_images_is_said(tmp_path):
    images = touch(tmp_path / "a", "x.jpg", "x.png")
    masks = touch(tmp_path / "b", "x.png")
    with pytest.raises(SslkitError, match=r"x\.jpg and .*x\.png have the same name"):
        pair(images, masks)
    with pytest.raises(SslkitError, match=r"No images found in .*\(it holds 2 \.json\)"):
        pair(masks, touch(tmp_path / "c", "x.json", "y.json"))
    with pytest.raises(SslkitError, match="--masks requires one"):
        pair(masks, tmp_path / "nowhere")
