"""STL-10's binaries: labelled, unlabelled, stored with the columns first."""

import shutil

import numpy as np
import pytest
from source_files import counts, opened, taken, write

from sslkit.data import images
from sslkit.errors import SslkitError

NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def pixels(label, number):
    image = np.random.default_rng(1000 * label + number).integers(0, 120, (96, 96, 3)).astype(np.uint8)
    image[..., label % 3] += 100
    return image


def binaries(root, folder="stl10_binary/", unlabelled=True):
    files = {f"{folder}class_names.txt": "\n".join(NAMES) + "\n"}
    for name, count in (("train", 20), ("test", 10), ("unlabeled", 30 * unlabelled)):
        if count:
            stack = np.stack([pixels(i % 10, i) for i in range(count)])
            files[f"{folder}{name}_X.bin"] = np.ascontiguousarray(stack.transpose(0, 3, 2, 1)).tobytes()
            if name != "unlabeled":
                files[f"{folder}{name}_y.bin"] = bytes(1 + i % 10 for i in range(count))
    return write(root, files)


@pytest.mark.parametrize("folder", ["stl10_binary/", ""])
def test_train_is_labelled_and_unlabelled_and_upright(folder, tmp_path):
    source = taken(binaries(tmp_path / "root", folder), tmp_path, "stl10")
    assert counts(source) == {"train": (50, 20), "val": (10, 10)}
    assert source.classes == NAMES
    for split, index, number in (("train", 7, 7), ("train", 33, 13), ("val", 3, 3)):
        found = images.decode(source.read(split, index).image).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, pixels(number % 10, number))
    assert source.remarks[0] == "train is 20 labelled images and 30 without labels"


@pytest.mark.parametrize("kind", ["gztar", "zip"])
def test_archives_of_the_binaries(kind, tmp_path):
    binaries(tmp_path / "root")
    archive = shutil.make_archive(str(tmp_path / "root/stl10_binary"), kind, tmp_path / "root", "stl10_binary")
    assert counts(taken(tmp_path / archive, tmp_path, "stl10")) == {"train": (50, 20), "val": (10, 10)}
    if kind == "gztar":  # torchvision's folder, before anything was extracted
        shutil.rmtree(tmp_path / "root/stl10_binary")
        assert counts(taken(tmp_path / "root", tmp_path, "stl10"))["train"] == (50, 20)


def test_without_the_unlabelled_part(tmp_path):
    root = binaries(tmp_path / "root", unlabelled=False)
    (root / "stl10_binary/fold_indices.txt").write_text("1 2 3")
    source = taken(root, tmp_path, "stl10")
    assert counts(source)["train"] == (20, 20)
    assert dict(source.left_out) == {".txt": 1}


def test_binaries_that_do_not_fit_are_one_line(tmp_path):
    root = binaries(tmp_path / "root")
    labels = root / "stl10_binary/train_y.bin"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(SslkitError, match="holds 19 labels for 20 images"):
        opened("stl10", root, tmp_path)
    data = root / "stl10_binary/train_X.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(SslkitError, match="not a multiple of 27648"):
        opened("stl10", root, tmp_path)
