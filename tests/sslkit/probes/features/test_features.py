"""Features on disk: how arrays are joined, what can be wrong with them, and the memory that reading them takes."""

from pathlib import Path

import numpy as np
import pytest

from sslkit.errors import SslkitError
from sslkit.probes.features.features import open_features


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_memory_of_the_features_is_given_back(tmp_path):
    def mapped() -> int:
        lines = Path("/proc/self/smaps").read_text().split("features.npy")[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

    np.save(tmp_path / "features.npy", np.ones((20000, 64), np.float32))
    np.save(tmp_path / "labels.npy", np.arange(20000) % 2)
    features = open_features([tmp_path / "features.npy"], tmp_path / "labels.npy")
    assert sum(float(rows.sum()) for _, rows in features.chunks(1000)) == 20000 * 64
    assert mapped() < 100  # of 5,000 kB


def test_layers_and_patch_mean_are_joined_in_order(tmp_path):
    blocks = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    for name, array in {"blocks": blocks, "patch_mean": blocks[:, 0] - 1, "labels": np.array([1, 0])}.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [tmp_path / "blocks.npy", tmp_path / "patch_mean.npy"]
    features = open_features(files, tmp_path / "labels.npy", last=2)
    assert features.width == 12
    expected = np.concatenate([blocks[:, 1], blocks[:, 2], blocks[:, 0] - 1], 1)
    assert np.array_equal(features.take(np.array([1, 0])).numpy(), expected[::-1])
    with pytest.raises(SslkitError, match="last 3 blocks, not 4: extract with --last-blocks 4"):
        open_features(files, tmp_path / "labels.npy", last=4)


def test_files_that_are_not_arrays_are_refused(tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    (tmp_path / "cls.npy").write_text("hello")
    with pytest.raises(SslkitError, match=r"cls\.npy is not a readable \.npy array"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")
    np.save(tmp_path / "cls.npy", np.array([{}, {}, {}]), allow_pickle=True)
    with pytest.raises(SslkitError, match="not a readable"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")


@pytest.mark.parametrize("kind", [">f4", ">f8", "<f8", ">f2", "f2", "g"])
def test_any_floats_in_any_byte_order_are_read(kind, tmp_path):
    """Features of other programs; long doubles and big-endian numbers are none that torch has."""
    values = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float16).astype(kind)
    np.save(tmp_path / "cls.npy", values)
    np.save(tmp_path / "labels.npy", np.array([0, 1, -1, 1, 0, 1], ">i2"))
    features = open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")
    assert features.labels.tolist() == [0, 1, 1, 0, 1]
    taken = np.concatenate([rows.numpy() for _, rows in features.chunks(2)])
    assert np.array_equal(taken, values[[0, 1, 3, 4, 5]].astype(np.float32))


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (np.array([0, 1, 10**8]), "100000000"),
        (np.array([0, 1, 2**63 - 1]), "9223372036854775807"),
        (np.array([0, 1, 2**63 + 5], np.uint64), "9223372036854775813"),
        (np.array([0, 1, -2]), "-2"),
        (np.array([0, 1, -(2**63)]), "-9223372036854775808"),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused(labels, label, tmp_path):
    np.save(tmp_path / "cls.npy", np.ones((3, 2), np.float32))
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(SslkitError, match=f"labels.npy: row 2 has the label {label}; labels are class numbers"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")


@pytest.mark.parametrize(
    "kind",
    ["<c8", "S3", "M8[s]", "m8[s]", "V4", "?", "<i4", [("a", "<f4"), ("b", "<f4")]],
    ids=lambda kind: str(kind)[:8],
)
def test_arrays_of_no_floats_are_refused(kind, tmp_path):
    np.save(tmp_path / "cls.npy", np.zeros((3, 2), kind))
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(SslkitError, match=r"cls\.npy .*(floats of shape|not a readable)"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")


@pytest.mark.parametrize(
    "header", ["{'descr': '<f4', ", "(" * 9000, "[]", "{'descr': 5, 'fortran_order': 0, 'shape': 1}"]
)
def test_a_damaged_header_is_an_error_of_one_line(header, tmp_path):
    body = header.encode() + b"\n"
    (tmp_path / "cls.npy").write_bytes(np.lib.format.magic(1, 0) + len(body).to_bytes(2, "little") + body + bytes(64))
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(SslkitError, match=r"cls\.npy is not a readable \.npy array"):
        open_features([tmp_path / "cls.npy"], tmp_path / "labels.npy")
