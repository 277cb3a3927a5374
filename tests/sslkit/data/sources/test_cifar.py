"""CIFAR from torchvision."""

import pickle

import numpy as np
import pytest
from source_files import opened

from sslkit.data import images
from sslkit.errors import SslkitError, UsageError


def cifar_batches(root, monkeypatch):
    """Files in CIFAR-10's official layout, with the checksums that torchvision compares."""
    import hashlib

    import torchvision.datasets

    kind = torchvision.datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 3072), dtype=np.uint8)

    def write(name, value):
        (folder / name).write_bytes(pickle.dumps(value))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    train = [write(f"data_batch_{i}", {"data": pixels[4 * i : 4 * i + 4], "labels": [3, 1, 0, 9]}) for i in range(2)]
    test = [write("test_batch", {"data": pixels[8:], "labels": [5, 5, 5, 5]})]
    names = [f"kind {i}" for i in range(10)]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": write("batches.meta", {"label_names": names})[1]}
    for attribute, value in {"train_list": train, "test_list": test, "meta": meta}.items():
        monkeypatch.setattr(kind, attribute, value)
    return pixels


@pytest.mark.parametrize("inside", [False, True])
def test_cifar10_from_a_folder(inside, tmp_path, monkeypatch):
    pixels = cifar_batches(tmp_path / "root", monkeypatch)
    root = tmp_path / "root" / "cifar-10-batches-py" if inside else tmp_path / "root"
    source = opened("cifar10", root, tmp_path)
    assert source.classes[3] == "kind 3"
    assert source.splits()["train"].tolist() == [3, 1, 0, 9] * 2 and source.splits()["val"].tolist() == [5] * 4
    assert source.remarks == ["val is the source's test"]
    sample = pickle.loads(pickle.dumps(source)).read("val", 1)
    np.testing.assert_array_equal(images.decode(sample.image).numpy(), pixels[9].reshape(3, 32, 32))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_without_a_network_says_what_to_do(name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    batches = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    root = tmp_path / "nowhere"
    with pytest.raises(SslkitError, match=rf"^there is no {batches} in {root}, and CIFAR.*no route.*--root"):
        opened(name, root, tmp_path)
    (root / batches).mkdir()
    with pytest.raises(SslkitError, match=rf"^{root}/{batches} is incomplete or damaged, and CIFAR.*no route"):
        opened(name, root, tmp_path)


def test_cifar_points_at_the_folder_source_for_an_archive(tmp_path):
    (tmp_path / "cifar10.tar.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="use --source folder --root"):
        opened("cifar10", tmp_path / "cifar10.tar.gz", tmp_path)
