"""Downsampled ImageNet."""

import pickle

import numpy as np
import pytest
from source_files import opened

from sslkit import registry
from sslkit.data import images
from sslkit.data.sources.base import PACKAGE
from sslkit.errors import SslkitError


def imagenet32_batches(root, as_npz):
    root.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 3072), dtype=np.uint8)
    # Batch 10 comes after batch 2.
    for name, rows in {"train_data_batch_1": [0, 1], "train_data_batch_2": [2, 3], "train_data_batch_10": [4, 5, 6],
                       "val_data": [7, 8]}.items():  # fmt: skip
        batch = {"data": pixels[rows], "labels": [i * 100 + 1 for i in rows], "mean": pixels.mean(0)}
        if as_npz:
            np.savez(root / f"{name}.npz", **{key: np.asarray(value) for key, value in batch.items()})
        else:
            (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    return pixels


@pytest.mark.parametrize("as_npz", [False, True])
def test_imagenet32(as_npz, tmp_path):
    pixels = imagenet32_batches(tmp_path / "root", as_npz)
    (tmp_path / "root" / "map_clsloc.txt").write_text("n02119789 1 kit_fox\nn02100735 2 English_setter\n")
    source = opened("imagenet32", tmp_path / "root", tmp_path)
    assert source.classes[:3] == ["n02119789", "n02100735", "3"] and len(source.classes) == 1000
    assert source.splits()["train"].tolist() == [0, 100, 200, 300, 400, 500, 600]
    assert source.splits()["val"].tolist() == [700, 800]
    sent = pickle.loads(pickle.dumps(source))
    for split, index, row in [("train", 0, 0), ("train", 6, 6), ("val", 1, 8)]:
        np.testing.assert_array_equal(
            images.decode(sent.read(split, index).image).numpy(), pixels[row].reshape(3, 32, 32)
        )
    assert source.fingerprint() != registry.load(PACKAGE, "imagenet32")(tmp_path / "root").fingerprint() + "x"


class Harmful:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (self.marker, "w"))


def test_a_pickle_of_imagenet32_never_executes_code(tmp_path):
    imagenet32_batches(tmp_path / "root", as_npz=False)
    marker = tmp_path / "was here"
    (tmp_path / "root" / "val_data").write_bytes(pickle.dumps({"data": Harmful(str(marker)), "labels": [1]}))
    with pytest.raises(SslkitError, match="not an official file"):
        opened("imagenet32", tmp_path / "root", tmp_path)
    assert not marker.exists()


def test_imagenet32_refuses_what_is_not_official(tmp_path):
    with pytest.raises(SslkitError, match="no train_data_batch_"):
        opened("imagenet32", tmp_path, tmp_path)
    root = tmp_path / "root"
    for batch in (
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]},
        {"labels": [1]},
        {"data": 3, "labels": [1]},
    ):
        root.mkdir(exist_ok=True)
        (root / "train_data_batch_1").write_bytes(pickle.dumps(batch))
        with pytest.raises(SslkitError, match="train_data_batch_1"):
            opened("imagenet32", root, tmp_path)
