"""ImageNet as distributed, extracted, and from Kaggle."""

import io
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from source_files import WNIDS, counts, opened, taken, tar_bytes, tinted, write

from sslkit.errors import SslkitError

IDS = {WNIDS[0]: 2, WNIDS[1]: 3, WNIDS[2]: 1}  # not in the wnids' order, as in the devkit
TRAIN = {wnid: {f"{wnid}_{i}.JPEG": tinted(label, i) for i in range(8)} for label, wnid in enumerate(WNIDS)}
VAL = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": tinted(i % 3, 50 + i) for i in range(9)}
TOP = "ILSVRC2012_devkit_t12/data"
FOLDERS = {f"train/{wnid}/{name}": data for wnid, files in TRAIN.items() for name, data in files.items()}
FLAT = {f"val/{name}": data for name, data in VAL.items()}
SORTED = {f"val/{WNIDS[i % 3]}/{name}": data for i, (name, data) in enumerate(VAL.items())}
SOLUTION = "ImageId,PredictionString\n" + "".join(
    f"{name[:-5]},{WNIDS[i % 3]} 0 0 39 39 \n" for i, name in enumerate(VAL)
)


def devkit():
    from scipy.io import savemat

    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(n, w, f"thing {w}", "", 0) for w, n in IDS.items()] + [(1001, "n00001740", "entity", "", 2)]
    mat = io.BytesIO()
    savemat(mat, {"synsets": np.array(rows, dtype=kind)})
    truth = "".join(f"{IDS[WNIDS[i % 3]]}\n" for i in range(9)).encode()
    return {f"{TOP}/meta.mat": mat.getvalue(), f"{TOP}/ILSVRC2012_validation_ground_truth.txt": truth}


def train_tar():
    return tar_bytes({f"{wnid}.tar": tar_bytes(files) for wnid, files in TRAIN.items()})


def archives():
    return {
        "ILSVRC2012_img_train.tar": train_tar(),
        "ILSVRC2012_img_val.tar": tar_bytes(VAL),
        "ILSVRC2012_devkit_t12.tar.gz": tar_bytes(devkit(), "w:gz"),
    }


KAGGLE = {f"ILSVRC/Data/CLS-LOC/{name}": data for name, data in (FOLDERS | FLAT).items()}
LAYOUTS = {
    "archives": archives,
    "archives in a folder": lambda: {f"downloads/{name}": data for name, data in archives().items()},
    "class tars, devkit unpacked": lambda: (
        {f"train/{wnid}.tar": tar_bytes(files) for wnid, files in TRAIN.items()}
        | {"val.tar": b"", "ILSVRC2012_img_val.tar": tar_bytes(VAL)} | devkit()
    ),
    "train extracted, val packed": lambda: FOLDERS | {k: v for k, v in archives().items() if "train" not in k},
    "extracted with the packed devkit": lambda: (
        FOLDERS | FLAT | {"ILSVRC2012_devkit_t12.tar.gz": tar_bytes(devkit(), "w:gz")}
    ),
    "val sorted into folders": lambda: FOLDERS | SORTED,
    "a list of wnids": lambda: (
        FOLDERS | FLAT
        | {"imagenet_2012_validation_synset_labels.txt": "".join(f"{WNIDS[i % 3]}\n" for i in range(9))}
    ),
    "Kaggle": lambda: KAGGLE | {"LOC_val_solution.csv": SOLUTION},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_labels(layout, tmp_path):
    root = write(tmp_path / "root", LAYOUTS[layout]())
    before = sorted(tmp_path.rglob("*"))
    source = taken(root, tmp_path, "imagenet")
    assert counts(source) == {"train": (24, 24), "val": (9, 9)}
    assert source.classes == list(WNIDS)
    assert source.remarks == []
    (tmp_path / "scratch").rmdir()  # nothing was unpacked
    assert sorted(tmp_path.rglob("*")) == before
    again = pickle.loads(pickle.dumps(source))
    assert again.read("train", 3).image == source.read("train", 3).image


def test_the_test_images_of_kaggle_are_counted(tmp_path):
    test = {f"ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_{i + 1:08d}.JPEG": tinted(0, i) for i in range(4)}
    root = write(tmp_path / "root", KAGGLE | test | {"LOC_val_solution.csv": SOLUTION, "LOC_synset_mapping.txt": ""})
    source = taken(root, tmp_path, "imagenet")
    assert counts(source) == {"train": (24, 24), "val": (9, 9)}
    assert source.remarks == ["test is not used: its 4 images have no labels"]
    assert dict(source.left_out) == {".jpeg": 4, ".txt": 1}


def test_a_zip_of_kaggles_folders(tmp_path):
    write(tmp_path / "root", KAGGLE | {"LOC_val_solution.csv": SOLUTION})
    archive = shutil.make_archive(str(tmp_path / "challenge"), "zip", tmp_path / "root")
    assert counts(taken(tmp_path / archive, tmp_path, "imagenet")) == {"train": (24, 24), "val": (9, 9)}


def test_the_train_tar_alone_is_train(tmp_path):
    root = write(tmp_path / "root", {"ILSVRC2012_img_train.tar": train_tar()})
    source = taken(root / "ILSVRC2012_img_train.tar", tmp_path, "imagenet")
    assert counts(source) == {"train": (24, 24)}


def test_val_without_a_table_is_said(tmp_path):
    source = taken(write(tmp_path / "root", FOLDERS | FLAT), tmp_path, "imagenet")
    assert counts(source) == {"train": (24, 24), "val": (9, 0)}
    assert source.remarks[0].startswith("9 of 9 images of val have no label: put ILSVRC2012_devkit_t12.tar.gz or")


def test_a_tar_that_is_cut_off_is_one_line(tmp_path):
    data = train_tar()
    root = write(tmp_path / "root", {"ILSVRC2012_img_train.tar": data})
    with tarfile.open(root / "ILSVRC2012_img_train.tar") as tar:
        inner = tar.getmembers()[1]
    (root / "ILSVRC2012_img_train.tar").write_bytes(data[: inner.offset_data + 2000])
    with pytest.raises(SslkitError, match=r"truncated or not a tar") as caught:
        opened("imagenet", root, tmp_path)
    assert "\n" not in str(caught.value)
