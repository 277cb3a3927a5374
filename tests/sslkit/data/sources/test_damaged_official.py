"""Tables of the official datasets that are damaged: an error of one line that names the table, or a remark."""

import numpy as np
import pytest
from source_files import opened, png, write

from sslkit.errors import SslkitError

TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
IMAGENET = {
    "n01440764/n01440764_1.JPEG": png(0),
    "n01443537/n01443537_1.JPEG": png(1),
    "val/ILSVRC2012_val_00000001.JPEG": png(2),
}


@pytest.mark.parametrize(
    "tables",
    [
        {"LOC_val_solution.csv": b"ImageId,x\nILSVRC2012_val_00000001,n\xff01440764 1\n"},
        {"imagenet_2012_validation_synset_labels.txt": b"\xff\xfe\x00n01440764"},
        {TRUTH: b"1\n", META: b"MATLAB 5.0 MAT-file" + bytes(range(256)) * 4},
        {TRUTH: b"1\n", META: b""},
        {"ILSVRC2012_devkit_t12.tar.gz": b"\x1f\x8b\x08\x00" + bytes(range(256))},
        {"ILSVRC2012_devkit_t12.tar.gz": b""},
    ],
    ids=["solution", "synsets", "mat", "empty mat", "devkit", "empty devkit"],
)
def test_damaged_tables_of_imagenet_are_named(tables, tmp_path):
    root = write(tmp_path / "root", IMAGENET | tables)
    with pytest.raises(SslkitError, match="again") as caught:
        opened("imagenet", root, tmp_path)
    assert any(name in str(caught.value) for name in tables)
    assert "\n" not in str(caught.value)


def test_class_names_of_another_number_are_not_used(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, 3 * 96 * 96 * 2, np.uint8).tobytes()
    files = {"train_X.bin": pixels, "train_y.bin": bytes([1, 10]), "class_names.txt": b"a\nb\xff\n"}
    source = opened("stl10", write(tmp_path / "root", files), tmp_path)
    assert len(source.classes) == 10
    assert "class_names.txt is not used: it holds 2 names of 10 classes" in source.remarks
