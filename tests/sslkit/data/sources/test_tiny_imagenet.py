"""Tiny-ImageNet, as a folder and in other wrappings."""

import shutil

import pytest
from source_files import WNIDS, counts, taken, tinted, write


def tiny(root, top=""):
    files = {}
    for label, wnid in enumerate(WNIDS):
        files |= {f"{top}train/{wnid}/images/{wnid}_{i}.JPEG": tinted(label, i) for i in range(8)}
        files[f"{top}train/{wnid}/{wnid}_boxes.txt"] = "".join(f"{wnid}_{i}.JPEG\t0\t0\t39\t39\n" for i in range(8))
    files |= {f"{top}val/images/val_{i}.JPEG": tinted(i % 3, 50 + i) for i in range(9)}
    files |= {f"{top}test/images/test_{i}.JPEG": tinted(i % 3, 90 + i) for i in range(9)}
    lines = (f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t32\t44\t62\n" for i in range(9))
    return write(root, files | {f"{top}val/val_annotations.txt": "".join(lines), f"{top}wnids.txt": "\n".join(WNIDS)})


@pytest.mark.parametrize("top", ["", "tiny-imagenet-200/"])
def test_val_is_labelled_by_its_table_and_test_is_said_to_be_unused(top, tmp_path):
    source = taken(tiny(tmp_path / "root", top), tmp_path, "tiny_imagenet")
    assert counts(source) == {"train": (24, 24), "val": (9, 9)}
    assert source.classes == list(WNIDS)
    assert source.remarks == ["test is not used: its 9 images have no labels"]
    assert dict(source.left_out) == {".jpeg": 9, ".txt": 4}


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_the_archive_is_recognised_too(kind, tmp_path):
    tiny(tmp_path / "root", "tiny-imagenet-200/")
    archive = shutil.make_archive(str(tmp_path / "tiny"), kind, tmp_path / "root")
    source = taken(tmp_path / archive, tmp_path, "tiny_imagenet")
    assert counts(source) == {"train": (24, 24), "val": (9, 9)}


def test_val_images_that_the_table_lacks_are_counted(tmp_path):
    root = tiny(tmp_path / "root")
    table = root / "val/val_annotations.txt"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:5]))
    source = taken(root, tmp_path, "tiny_imagenet")
    assert counts(source)["val"] == (9, 5)
    assert "4 images of val have no label in val_annotations.txt" in source.remarks
